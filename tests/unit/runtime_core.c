/* SPDX-License-Identifier: Apache-2.0 */
/* Files, processes, identities and the log: what the monitor links too. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <uv.h>

#include <vdc/base.h>
#include <vdc/clock.h>
#include <vdc/entropy.h>
#include <vdc/file.h>
#include <vdc/log.h>
#include <vdc/peer.h>
#include <vdc/spawn.h>

static char dir[64];

static void make_dir(void)
{
    strcpy(dir, "/tmp/vdc-core-test-XXXXXX");
    cr_assert_not_null(mkdtemp(dir));
}

static void remove_dir(void)
{
    struct vdc_err err;
    cr_assert_eq(vdc_dir_remove(dir, &err), VDC_RC_OK, "%s", vdc_err_text(&err));
}

static char *in_dir(const char *name)
{
    return vdc_asprintf("%s/%s", dir, name);
}

static void write_text(const char *path, const char *text, mode_t mode)
{
    struct vdc_err err;
    cr_assert_eq(vdc_file_write_atomic(path, text, strlen(text), mode, &err), VDC_RC_OK, "%s",
                 vdc_err_text(&err));
}

static void expect_text(const char *path, const char *wanted)
{
    struct vdc_buf buf = {0};
    struct vdc_err err;
    cr_assert_eq(vdc_file_read(path, 65536, &buf, &err), VDC_RC_OK, "%s", vdc_err_text(&err));
    cr_assert_str_eq(vdc_buf_text(&buf), wanted);
    vdc_buf_deinit(&buf);
}

Test(file, is_replaced_whole_with_the_mode_asked_for, .init = make_dir, .fini = remove_dir)
{
    vdc_autofree char *path = in_dir("f");
    write_text(path, "old", 0644);
    umask(077);
    write_text(path, "new content", 0644);
    expect_text(path, "new content");
    struct stat st;
    cr_assert_eq(stat(path, &st), 0);
    cr_assert_eq(st.st_mode & 0777, 0644);
    vdc_autofree char *tmp = in_dir("f.tmp");
    cr_assert_not(vdc_file_exists(tmp));
    cr_assert_eq(vdc_file_remove(path, NULL), VDC_RC_OK);
    cr_assert_eq(vdc_file_remove(path, NULL), VDC_RC_OK);
}

Test(file, is_not_written_through_a_leftover_link, .init = make_dir, .fini = remove_dir)
{
    vdc_autofree char *victim = in_dir("victim");
    vdc_autofree char *path = in_dir("f");
    vdc_autofree char *tmp = in_dir("f.tmp");
    write_text(victim, "keep", 0600);
    cr_assert_eq(symlink(victim, tmp), 0);
    write_text(path, "x", 0600);
    expect_text(victim, "keep");
}

Test(file, is_read_up_to_a_bound, .init = make_dir, .fini = remove_dir)
{
    vdc_autofree char *path = in_dir("f");
    write_text(path, "12345", 0600);
    struct vdc_buf buf = {0};
    struct vdc_err err;
    cr_assert_eq(vdc_file_read(path, 5, &buf, &err), VDC_RC_OK);
    cr_assert_eq(vdc_file_read(path, 4, &buf, &err), VDC_RC_TOO_LARGE);
    cr_assert_eq(vdc_file_read("/proc/self/stat", 4096, &buf, &err), VDC_RC_OK);
    cr_assert_eq(vdc_file_read("/nowhere/x", 4, &buf, &err), VDC_RC_NOT_FOUND);
    cr_assert_str_eq(err.text, "open /nowhere/x: No such file or directory");
    cr_assert_eq(vdc_file_read("/dev/zero", 100, &buf, &err), VDC_RC_TOO_LARGE);
    vdc_buf_deinit(&buf);
}

Test(file, directories_are_made_and_removed_with_all_in_them, .init = make_dir, .fini = remove_dir)
{
    vdc_autofree char *deep = in_dir("a//b/c/");
    vdc_autofree char *file = in_dir("a/b/c/f");
    vdc_autofree char *outside = in_dir("outside");
    vdc_autofree char *link = in_dir("a/link");
    vdc_autofree char *top = in_dir("a");
    struct vdc_err err;
    cr_assert_eq(vdc_dir_make(deep, 0755, &err), VDC_RC_OK, "%s", vdc_err_text(&err));
    cr_assert_eq(vdc_dir_make(deep, 0755, &err), VDC_RC_OK, "%s", vdc_err_text(&err));
    write_text(file, "x", 0600);
    vdc_autofree char *below = in_dir("a/b/c/f/g");
    cr_assert_eq(vdc_dir_make(below, 0755, &err), VDC_RC_CONFLICT, "%s", vdc_err_text(&err));
    cr_assert_eq(vdc_dir_make(outside, 0755, NULL), VDC_RC_OK);
    vdc_autofree char *kept = in_dir("outside/kept");
    write_text(kept, "x", 0600);
    cr_assert_eq(symlink(outside, link), 0);
    cr_assert_eq(vdc_dir_remove(top, &err), VDC_RC_OK, "%s", vdc_err_text(&err));
    cr_assert_not(vdc_file_exists(top));
    cr_assert(vdc_file_exists(kept), "a link is removed, not followed");
    cr_assert_eq(vdc_dir_remove(top, &err), VDC_RC_OK);
}

struct waiter {
    bool done;
    struct vdc_proc_exit how;
    struct vdc_proc_watch *watch;
};

static void on_exit_of(void *data, const struct vdc_proc_exit *how)
{
    struct waiter *waiter = data;
    waiter->done = true;
    waiter->how = *how;
    vdc_proc_watch_close(waiter->watch);
}

static struct vdc_proc_exit wait_for(const struct vdc_proc *proc)
{
    uv_loop_t loop;
    struct waiter waiter = {0};
    struct vdc_err err;
    uv_loop_init(&loop);
    cr_assert_eq(vdc_proc_watch_open(&loop, proc, on_exit_of, &waiter, &waiter.watch, &err),
                 VDC_RC_OK, "%s", vdc_err_text(&err));
    cr_assert_not(waiter.done, "only from the loop");
    uv_run(&loop, UV_RUN_DEFAULT);
    cr_assert(waiter.done);
    cr_assert_eq(uv_loop_close(&loop), 0);
    return waiter.how;
}

static struct vdc_proc spawn_shell(const char *script, const struct vdc_spawn_fd *fds, size_t count,
                                   const char *log)
{
    const char *argv[] = {"sh", "-c", script, NULL};
    struct vdc_spawn_config config = {
        .argv = argv, .fds = fds, .fd_count = count, .log_path = log, .detached = true};
    struct vdc_proc proc;
    struct vdc_err err;
    cr_assert_eq(vdc_spawn(&config, &proc, &err), VDC_RC_OK, "%s", vdc_err_text(&err));
    return proc;
}

Test(spawn, gives_chosen_descriptors_at_chosen_numbers_and_closes_the_rest, .init = make_dir,
     .fini = remove_dir)
{
    vdc_autofree char *log = in_dir("log");
    vdc_autofree char *a_path = in_dir("a");
    vdc_autofree char *b_path = in_dir("b");
    int a = open(a_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    int b = open(b_path, O_RDWR | O_CREAT, 0600); /* not close-on-exec, on purpose */
    /* Swapped numbers: one must not overwrite the other on its way. */
    struct vdc_spawn_fd fds[] = {{a, b}, {b, a}};
    vdc_autofree char *script =
        vdc_asprintf("echo to-a >/proc/$$/fd/%d; echo to-b >/proc/$$/fd/%d; echo out; echo err "
                     ">&2; "
                     "set -- /proc/$$/fd/*; echo $#; cat",
                     b, a);
    struct vdc_proc proc = spawn_shell(script, fds, 2, log);
    struct vdc_proc_exit how = wait_for(&proc);
    cr_assert(how.known);
    cr_assert_eq(how.code, 0);
    expect_text(a_path, "to-a\n");
    expect_text(b_path, "to-b\n");
    expect_text(log, "out\nerr\n6\n"); /* 0, 1, 2, a, b, and the one that lists */
    close(a);
    close(b);
}

Test(spawn, reports_what_can_not_be_started)
{
    struct vdc_proc proc;
    struct vdc_err err;
    const char *missing[] = {"/nowhere/program", NULL};
    struct vdc_spawn_config config = {.argv = missing};
    cr_assert_eq(vdc_spawn(&config, &proc, &err), VDC_RC_NOT_FOUND);
    cr_assert_str_eq(err.text, "start /nowhere/program: exec: No such file or directory");
    const char *not_in_path[] = {"no-such-program-at-all", NULL};
    config.argv = not_in_path;
    cr_assert_eq(vdc_spawn(&config, &proc, &err), VDC_RC_NOT_FOUND);
    const char *text[] = {"/etc/passwd", NULL};
    config.argv = text;
    cr_assert_eq(vdc_spawn(&config, &proc, &err), VDC_RC_FORBIDDEN);
    const char *good[] = {"true", NULL};
    config.argv = good;
    config.cwd = "/nowhere";
    cr_assert_eq(vdc_spawn(&config, &proc, &err), VDC_RC_NOT_FOUND);
    cr_assert_eq(proc.pid, 0);
    cr_assert_eq(waitpid(-1, NULL, WNOHANG), -1, "no child is left");
}

Test(spawn, starts_with_default_signals_in_a_session_of_its_own)
{
    signal(SIGPIPE, SIG_IGN);
    struct vdc_proc proc = spawn_shell("kill -PIPE $$; exit 3", NULL, 0, NULL);
    struct vdc_proc_exit how = wait_for(&proc);
    cr_assert(how.known);
    cr_assert_eq(how.code, -1);
    cr_assert_eq(how.sig, SIGPIPE);
    /* exec: killing a shell that forked leaves its child behind, which holds ctest's pipe open. */
    proc = spawn_shell("exec sleep 60", NULL, 0, NULL);
    cr_assert_eq(getsid(proc.pid), proc.pid);
    cr_assert(vdc_proc_alive(&proc));
    cr_assert_eq(vdc_proc_kill(&proc, SIGKILL, NULL), VDC_RC_OK);
    cr_assert_eq(wait_for(&proc).sig, SIGKILL);
    cr_assert_not(vdc_proc_alive(&proc));
    cr_assert_eq(vdc_proc_kill(&proc, SIGKILL, NULL), VDC_RC_NOT_FOUND);
    cr_assert_not(wait_for(&proc).known, "it is long gone and was reaped");
}

Test(spawn, tells_a_process_from_a_later_one_with_the_same_pid)
{
    struct vdc_proc me;
    cr_assert_eq(vdc_proc_find(getpid(), &me, NULL), VDC_RC_OK);
    cr_assert(vdc_proc_alive(&me));
    struct vdc_proc other = {.pid = me.pid, .start_time = me.start_time + 1};
    cr_assert_not(vdc_proc_alive(&other));
    struct vdc_err err;
    cr_assert_eq(vdc_proc_kill(&other, 0, &err), VDC_RC_NOT_FOUND);
    cr_assert(strstr(err.text, "another has its pid") != NULL);
    cr_assert_not(wait_for(&other).known);
}

Test(spawn, a_zombie_is_not_alive)
{
    struct vdc_proc proc = spawn_shell("exit 5", NULL, 0, NULL);
    siginfo_t info;
    cr_assert_eq(waitid(P_PID, (id_t)proc.pid, &info, WEXITED | WNOWAIT), 0);
    cr_assert_not(vdc_proc_alive(&proc));
    cr_assert_eq(wait_for(&proc).code, 5);
}

Test(spawn, an_adopted_process_that_is_no_child_is_watched_too, .init = make_dir,
     .fini = remove_dir)
{
    vdc_autofree char *pid_path = in_dir("pid");
    vdc_autofree char *script = vdc_asprintf("sleep 60 & echo $! >%s", pid_path);
    struct vdc_proc shell = spawn_shell(script, NULL, 0, NULL);
    cr_assert_eq(wait_for(&shell).code, 0);
    struct vdc_buf text = {0};
    cr_assert_eq(vdc_file_read(pid_path, 100, &text, NULL), VDC_RC_OK);
    struct vdc_proc orphan;
    cr_assert_eq(vdc_proc_find(atoi(vdc_buf_text(&text)), &orphan, NULL), VDC_RC_OK);
    cr_assert_eq(vdc_proc_kill(&orphan, SIGTERM, NULL), VDC_RC_OK);
    cr_assert_not(wait_for(&orphan).known);
    vdc_buf_deinit(&text);
}

Test(peer, is_read_from_its_uri_and_nothing_else)
{
    struct vdc_peer peer;
    char text[VDC_PEER_TEXT_CAP];
    static const struct {
        const char *uri;
        size_t len; /* 0: strlen */
        enum vdc_peer_kind kind;
    } cases[] = {
        {"vdc://node/n1", 0, VDC_PEER_NODE},
        {"vdc://manager/m-1", 0, VDC_PEER_MANAGER},
        {"vdc://user/alice", 0, VDC_PEER_USER},
        {"vdc://node/", 0, VDC_PEER_NONE},
        {"vdc://node", 0, VDC_PEER_NONE},
        {"vdc://admin/a", 0, VDC_PEER_NONE},
        {"vdc://node/a/b", 0, VDC_PEER_NONE},
        {"vdc://node/N1", 0, VDC_PEER_NONE},
        {"VDC://node/n1", 0, VDC_PEER_NONE},
        {"vdc://node/n1\0x", 15, VDC_PEER_NONE},
        {"https://vdc/node", 0, VDC_PEER_NONE},
        {"", 0, VDC_PEER_NONE},
        {"vdc://node/0123456789012345678901234567890123456789012345678901234567890123", 0,
         VDC_PEER_NONE},
    };
    for (size_t i = 0; i < VDC_COUNT_OF(cases); i++) {
        size_t len = cases[i].len != 0 ? cases[i].len : strlen(cases[i].uri);
        enum vdc_rc rc = vdc_peer_parse(cases[i].uri, len, &peer);
        cr_assert_eq(peer.kind, cases[i].kind, "%s", cases[i].uri);
        cr_assert_eq(rc == VDC_RC_OK, cases[i].kind != VDC_PEER_NONE);
        if (rc == VDC_RC_OK) {
            vdc_peer_to_text(&peer, text);
            cr_assert_str_eq(text, cases[i].uri);
        }
    }
}

Test(peer, matches_what_is_expected)
{
    struct vdc_peer n1 = {VDC_PEER_NODE, "n1"};
    struct vdc_peer m1 = {VDC_PEER_MANAGER, "n1"};
    struct vdc_peer any_node = {VDC_PEER_NODE, ""};
    struct vdc_peer anybody = {VDC_PEER_NONE, ""};
    cr_assert(vdc_peer_matches(&n1, &n1));
    cr_assert(vdc_peer_matches(&n1, &any_node));
    cr_assert(vdc_peer_matches(&n1, &anybody));
    cr_assert_not(vdc_peer_matches(&m1, &n1));
    cr_assert_not(vdc_peer_matches(&m1, &any_node));
}

Test(log, writes_one_line_that_nothing_from_outside_can_forge, .init = make_dir, .fini = remove_dir)
{
    vdc_autofree char *path = in_dir("log");
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    int before = dup(STDERR_FILENO);
    dup2(fd, STDERR_FILENO);
    vdc_log_open("unit", VDC_LEVEL_INFO);
    vdc_log_debug("not seen");
    vdc_log_warn("name %s", "a\nb\x1b[31m");
    struct vdc_trace trace = {0};
    vdc_trace_line(&trace, VDC_LEVEL_INFO, "lease: held -> go on");
    vdc_log_trace(&trace);
    vdc_trace_deinit(&trace);
    dup2(before, STDERR_FILENO);
    close(fd);
    close(before);
    struct vdc_buf buf = {0};
    cr_assert_eq(vdc_file_read(path, 4096, &buf, NULL), VDC_RC_OK);
    const char *text = vdc_buf_text(&buf);
    int year;
    int used = 0;
    cr_assert_eq(sscanf(text, "%4d-%*2d-%*2dT%*2d:%*2d:%*2d.%*3dZ info  unit %n", &year, &used), 1);
    cr_assert_gt(used, 0);
    cr_assert(strstr(text, "Z warn  name a?b?[31m\n") != NULL, "%s", text);
    cr_assert(strstr(text, "Z info  lease: held -> go on\n") != NULL, "%s", text);
    cr_assert(strstr(text, "not seen") == NULL);
    vdc_buf_deinit(&buf);
}

Test(clock, goes_forward_and_ids_differ)
{
    vdc_mono a = vdc_clock_mono();
    vdc_mono b = vdc_clock_mono();
    cr_assert_geq(b.ns, a.ns);
    cr_assert_gt(vdc_clock_wall().ns, INT64_C(1700000000) * VDC_SECOND);
    struct vdc_id x = vdc_entropy_id();
    struct vdc_id y = vdc_entropy_id();
    cr_assert_not(vdc_id_equal(&x, &y));
}
