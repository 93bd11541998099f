/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SQLite and LMDB as append-only stores of the same records, each with the settings that its own
 * documentation gives for durable commits, and otherwise its defaults. They keep no allocation
 * state, judge nothing and compute no digest: the comparison is in their favour.
 */
#include "allocdb_bench.h"

#include <stdio.h>
#include <string.h>

#include <vdc/base.h>

#include "bench.h"

#ifdef VDC_BENCH_SQLITE
#include <sqlite3.h>

struct sqlite_store {
    sqlite3 *db;
    sqlite3_stmt *insert;
};

static void sqlite_do(sqlite3 *db, const char *sql)
{
    if (sqlite3_exec(db, sql, NULL, NULL, NULL) != SQLITE_OK) {
        bench_die("sqlite: %s: %s", sql, sqlite3_errmsg(db));
    }
}

static void *sqlite_begin(const char *dir)
{
    struct sqlite_store *store = VDC_NEW(struct sqlite_store);
    vdc_autofree char *path = vdc_asprintf("%s/sqlite.db", dir);
    if (sqlite3_open(path, &store->db) != SQLITE_OK) {
        bench_die("sqlite: open %s: %s", path, sqlite3_errmsg(store->db));
    }
    sqlite_do(store->db, "PRAGMA journal_mode=WAL");
    sqlite_do(store->db, "PRAGMA synchronous=FULL");
    sqlite_do(store->db, "CREATE TABLE record(sequence INTEGER PRIMARY KEY, data BLOB NOT NULL)");
    if (sqlite3_prepare_v2(store->db, "INSERT INTO record VALUES(?1, ?2)", -1, &store->insert,
                           NULL) != SQLITE_OK) {
        bench_die("sqlite: %s", sqlite3_errmsg(store->db));
    }
    return store;
}

static void sqlite_put(void *ptr, uint64_t first, const struct vdc_buf *records, unsigned len)
{
    struct sqlite_store *store = ptr;
    sqlite_do(store->db, "BEGIN");
    for (unsigned i = 0; i < len; i++) {
        (void)sqlite3_bind_int64(store->insert, 1, (sqlite3_int64)(first + i));
        (void)sqlite3_bind_blob(store->insert, 2, records[i].data, (int)records[i].len,
                                SQLITE_STATIC);
        if (sqlite3_step(store->insert) != SQLITE_DONE) {
            bench_die("sqlite: %s", sqlite3_errmsg(store->db));
        }
        (void)sqlite3_reset(store->insert);
    }
    sqlite_do(store->db, "COMMIT");
}

static void sqlite_end(void *ptr)
{
    struct sqlite_store *store = ptr;
    (void)sqlite3_finalize(store->insert);
    (void)sqlite3_close(store->db);
    free(store);
}
#endif

#ifdef VDC_BENCH_LMDB
#include <lmdb.h>

/* Address space; the file grows as it is used. */
#define LMDB_MAP_BYTES ((size_t)64 << 30)

struct lmdb_store {
    MDB_env *env;
    MDB_dbi dbi;
};

static void lmdb_check(int rc, const char *what)
{
    if (rc != 0) {
        bench_die("lmdb: %s: %s", what, mdb_strerror(rc));
    }
}

static void *lmdb_begin(const char *dir)
{
    struct lmdb_store *store = VDC_NEW(struct lmdb_store);
    MDB_txn *txn;
    lmdb_check(mdb_env_create(&store->env), "create");
    lmdb_check(mdb_env_set_mapsize(store->env, LMDB_MAP_BYTES), "map size");
    lmdb_check(mdb_env_open(store->env, dir, 0, 0600), "open");
    lmdb_check(mdb_txn_begin(store->env, NULL, 0, &txn), "begin");
    lmdb_check(mdb_dbi_open(txn, NULL, MDB_INTEGERKEY, &store->dbi), "open the database");
    lmdb_check(mdb_txn_commit(txn), "commit");
    return store;
}

static void lmdb_put(void *ptr, uint64_t first, const struct vdc_buf *records, unsigned len)
{
    struct lmdb_store *store = ptr;
    MDB_txn *txn;
    lmdb_check(mdb_txn_begin(store->env, NULL, 0, &txn), "begin");
    for (unsigned i = 0; i < len; i++) {
        size_t sequence = first + i;
        MDB_val key = {sizeof(sequence), &sequence};
        MDB_val data = {records[i].len, records[i].data};
        lmdb_check(mdb_put(txn, store->dbi, &key, &data, MDB_APPEND), "put");
    }
    lmdb_check(mdb_txn_commit(txn), "commit");
}

static void lmdb_end(void *ptr)
{
    struct lmdb_store *store = ptr;
    mdb_env_close(store->env);
    free(store);
}
#endif

const struct bench_peer bench_peers[] = {
#ifdef VDC_BENCH_SQLITE
    {"sqlite", sqlite_begin, sqlite_put, sqlite_end},
#endif
#ifdef VDC_BENCH_LMDB
    {"lmdb", lmdb_begin, lmdb_put, lmdb_end},
#endif
    {0},
};
