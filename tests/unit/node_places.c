/* SPDX-License-Identifier: Apache-2.0 */
/* The guests' places on the machine: what an agent finds, marks and removes there. Without monitors:
 * those are real in tests/e2e/agent. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <criterion/criterion.h>
#include <uv.h>

#include <vdc/base.h>
#include <vdc/file.h>

#include "places.h"

#define ID_TEXT "00000000-0000-4000-8000-000000000001"

static char root[] = "/tmp/vdc-places-XXXXXX";
static struct agent_config config;
static uv_loop_t loop;
static struct places *places;

/* What was told. */
static struct {
    bool found_alive;
    bool gone;
    bool marked;
    enum vdc_rc rc;
    char text[512];
} told;

static void on_event(void *data, struct vdc_agent_event *event)
{
    (void)data;
    if (event->kind == VDC_AGENT_FOUND) {
        told.found_alive = event->found.alive;
    } else if (event->kind == VDC_AGENT_MONITOR_GONE) {
        told.gone = true;
        snprintf(told.text, sizeof told.text, "%s",
                 event->monitor.text != NULL ? event->monitor.text : "");
        uv_stop(&loop);
    } else if (event->kind == VDC_AGENT_HANDOVER_MARKED) {
        told.marked = true;
        told.rc = event->monitor.rc;
    }
}

static struct vdc_msg_command_result answered;
static unsigned answers;

static void on_command_result(void *data, uint32_t session,
                              const struct vdc_msg_command_result *result)
{
    (void)data;
    cr_assert_eq(session, 3);
    answered = *result;
    answers++;
}

static void setup(void)
{
    cr_assert_not_null(mkdtemp(root));
    snprintf(config.run_dir, sizeof config.run_dir, "%s/run", root);
    snprintf(config.shared_dir, sizeof config.shared_dir, "%s/shared", root);
    cr_assert_eq(mkdir(config.shared_dir, 0755), 0);
    cr_assert_eq(uv_loop_init(&loop), 0);
    struct places_config places_config = {.loop = &loop,
                                          .agent = &config,
                                          .program_dir = root,
                                          .on_event = on_event,
                                          .on_command_result = on_command_result};
    struct vdc_err err;
    cr_assert_eq(agent_places_open(&places_config, &places, &err), VDC_RC_OK, "%s", err.text);
}

static void teardown(void)
{
    struct vdc_err err;
    agent_places_close(places);
    uv_run(&loop, UV_RUN_DEFAULT);
    cr_assert_eq(uv_loop_close(&loop), 0);
    cr_assert_eq(vdc_dir_remove(root, &err), VDC_RC_OK, "%s", err.text);
}

TestSuite(node_places, .init = setup, .fini = teardown, .timeout = 60);

/* A guest whose start fails, for want of what `config` names or of the programs. */
static void start_guest(const char *description)
{
    struct vdc_partition partition = {
        .kind = VDC_PARTITION_GUEST,
        .name = "web",
        .config = (const uint8_t *)description,
        .config_len = (uint32_t)strlen(description),
    };
    struct vdc_agent_action action = {.kind = VDC_AGENT_DO_START, .start.partition = &partition};
    cr_assert(vdc_id_from_text(ID_TEXT, &action.key.id));
    action.key.generation = 1;
    agent_places_start(places, &action);
    agent_places_deliver(places);
}

static struct vdc_agent_key key_one(uint64_t generation)
{
    struct vdc_agent_key key = {.generation = generation};
    cr_assert(vdc_id_from_text(ID_TEXT, &key.id));
    return key;
}

static char *make_place(uint64_t generation)
{
    char *place = vdc_asprintf("%s/partitions/" ID_TEXT ".%llu", config.run_dir,
                               (unsigned long long)generation);
    cr_assert_eq(mkdir(place, 0700), 0);
    return place;
}

/* The agent was killed between starting the monitor and noting its pid, and the monitor has not made
 * its socket yet: nothing but the lock tells that it is there. */
Test(node_places, a_monitor_that_was_started_and_not_noted_is_found_by_its_lock_and_killed)
{
    vdc_autofree char *place = make_place(3);
    vdc_autofree char *lock = vdc_asprintf("%s/lock", place);
    int fd = open(lock, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    cr_assert_eq(flock(fd, LOCK_EX), 0);
    pid_t child = fork();
    if (child == 0) {
        for (;;) {
            pause();
        }
    }
    close(fd);
    agent_places_find(places);
    cr_assert(told.found_alive);
    uv_run(&loop, UV_RUN_DEFAULT);
    cr_assert(told.gone);
    int status;
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

Test(node_places, a_hand_over_is_marked_in_the_directory_and_that_is_told)
{
    struct vdc_agent_key key = key_one(1);
    vdc_autofree char *place = make_place(1);
    vdc_autofree char *mark = vdc_asprintf("%s/handover", place);
    agent_places_mark_handover(places, &key, true);
    cr_assert(vdc_file_exists(mark));
    cr_assert_not(told.marked); /* not from within */
    agent_places_deliver(places);
    cr_assert(told.marked);
    cr_assert_eq(told.rc, VDC_RC_OK);
    agent_places_mark_handover(places, &key, false);
    cr_assert_not(vdc_file_exists(mark));
}

Test(node_places, a_hand_over_that_cannot_be_marked_is_told_as_failed)
{
    struct vdc_agent_key key = key_one(2); /* without a directory */
    agent_places_mark_handover(places, &key, true);
    agent_places_deliver(places);
    cr_assert(told.marked);
    cr_assert_eq(told.rc, VDC_RC_NOT_FOUND);
}

static char *make_volume(const char *id)
{
    char *path = vdc_asprintf("%s/volumes/%s.raw", config.shared_dir, id);
    vdc_autofree char *volumes = vdc_asprintf("%s/volumes", config.shared_dir);
    struct vdc_err err;
    cr_assert_eq(vdc_dir_make(volumes, 0750, &err), VDC_RC_OK, "%s", err.text);
    cr_assert_eq(vdc_file_write_atomic(path, "data", 4, 0600, &err), VDC_RC_OK, "%s", err.text);
    return path;
}

static void delete_volume(const char *id)
{
    struct vdc_msg_command command = {.request_id = key_one(9).id};
    struct vdc_agent_action action = {
        .kind = VDC_AGENT_DO_VOLUME_DELETE,
        .console = {.session = 3, .command = &command},
    };
    cr_assert(vdc_id_from_text(id, &command.partition));
    agent_places_delete_volume(places, &action);
}

Test(node_places, a_volume_is_deleted_and_no_other_and_again_is_well)
{
    vdc_autofree char *first = make_volume(ID_TEXT);
    vdc_autofree char *second = make_volume("00000000-0000-4000-8000-000000000002");
    for (unsigned i = 1; i <= 2; i++) {
        delete_volume(ID_TEXT);
        cr_assert_eq(answers, i - 1); /* not from within */
        uv_run(&loop, UV_RUN_DEFAULT);
        cr_assert_eq(answers, i);
        cr_assert_eq(answered.rc, VDC_RC_OK, "%s", answered.text);
        struct vdc_id id = key_one(9).id;
        cr_assert(vdc_id_equal(&answered.request_id, &id));
    }
    cr_assert_not(vdc_file_exists(first));
    cr_assert(vdc_file_exists(second));
}

Test(node_places, a_volume_is_not_gone_because_the_storage_is)
{
    delete_volume(ID_TEXT); /* there is not even a directory of volumes */
    uv_run(&loop, UV_RUN_DEFAULT);
    cr_assert_eq(answers, 1);
    cr_assert_eq(answered.rc, VDC_RC_UNAVAILABLE);
    cr_assert_not_null(strstr(answered.text, ID_TEXT));
}

Test(node_places, an_agent_that_ends_does_not_wait_for_a_deletion)
{
    vdc_autofree char *first = make_volume(ID_TEXT);
    delete_volume(ID_TEXT);
    agent_places_close(places);
    places = NULL;
    uv_run(&loop, UV_RUN_DEFAULT);
    cr_assert_eq(answers, 0);
    cr_assert_not(vdc_file_exists(first));
}

#define WITH_DISK \
    "{\"image\":\"linux\",\"disk_bytes\":1048576,\"volume\":\"" ID_TEXT "\",\"name\":\"web\"}"

Test(node_places, a_guest_gets_no_disk_of_this_node_when_the_shared_storage_is_away)
{
    cr_assert_eq(rmdir(config.shared_dir), 0);
    start_guest(WITH_DISK);
    cr_assert(told.gone);
    cr_assert_not_null(strstr(told.text, "is the shared storage mounted?"), "%s", told.text);
    cr_assert_not(vdc_file_exists(config.shared_dir));
}

Test(node_places, a_volume_is_made_with_the_first_start_and_kept_by_the_next)
{
    start_guest(WITH_DISK);
    vdc_autofree char *path = vdc_asprintf("%s/volumes/" ID_TEXT ".raw", config.shared_dir);
    struct stat first;
    cr_assert_eq(stat(path, &first), 0);
    cr_assert_eq(first.st_size, 1048576);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    cr_assert_eq(write(fd, "data", 4), 4);
    close(fd);
    start_guest(WITH_DISK);
    char data[4];
    fd = open(path, O_RDONLY | O_CLOEXEC);
    cr_assert_eq(read(fd, data, 4), 4);
    close(fd);
    cr_assert_arr_eq(data, "data", 4);
}

Test(node_places, a_log_that_has_grown_large_is_put_aside_at_the_next_start)
{
    vdc_autofree char *place = make_place(1);
    vdc_autofree char *log = vdc_asprintf("%s/monitor.log", place);
    vdc_autofree char *old = vdc_asprintf("%s/monitor.log.1", place);
    int fd = open(log, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    cr_assert_eq(ftruncate(fd, 1 << 20), 0);
    start_guest("{\"image\":\"linux\"}");
    cr_assert_not(vdc_file_exists(old));
    cr_assert_eq(ftruncate(fd, (1 << 20) + 1), 0);
    close(fd);
    start_guest("{\"image\":\"linux\"}");
    cr_assert(vdc_file_exists(old));
}
