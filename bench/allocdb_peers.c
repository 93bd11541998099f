/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SQLite and LMDB as stores of the same allocations: partitions, owners of CPUs, blocks of memory.
 * Each has the settings that its own documentation gives for durable commits, and otherwise its
 * defaults. They get transactions with every choice made and judge nothing, keep no counters, no page
 * map, no digest and no answers: the comparison is in their favour. "append" is more so: they store
 * the finished records under ascending numbers and no state at all.
 */
#include "allocdb_bench.h"

#include <stdio.h>
#include <string.h>

#include <vdc/base.h>

#include "bench.h"

#ifdef VDC_BENCH_SQLITE
#include <sqlite3.h>

enum sqlite_statement {
    SQLITE_RECORD,
    SQLITE_PARTITION,
    SQLITE_CPU,
    SQLITE_BLOCK,
    SQLITE_NO_PARTITION,
    SQLITE_NO_CPUS,
    SQLITE_NO_BLOCKS,
    SQLITE_STATEMENTS
};

static const char *const sqlite_texts[SQLITE_STATEMENTS] = {
    [SQLITE_RECORD] = "INSERT INTO record VALUES(?1, ?2)",
    [SQLITE_PARTITION] = "INSERT INTO partition VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    [SQLITE_CPU] = "INSERT INTO cpu VALUES(?2, ?1)",
    [SQLITE_BLOCK] = "INSERT INTO block VALUES(?2, ?3, ?4, ?1)",
    [SQLITE_NO_PARTITION] = "DELETE FROM partition WHERE id = ?1",
    [SQLITE_NO_CPUS] = "DELETE FROM cpu WHERE owner = ?1",
    [SQLITE_NO_BLOCKS] = "DELETE FROM block WHERE owner = ?1",
};

struct sqlite_store {
    sqlite3 *db;
    sqlite3_stmt *statements[SQLITE_STATEMENTS];
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
    sqlite_do(store->db, "CREATE TABLE partition(id BLOB PRIMARY KEY, name TEXT, tenant TEXT,"
                         " class TEXT, vcpus INTEGER, bytes INTEGER, config BLOB) WITHOUT ROWID");
    sqlite_do(store->db, "CREATE TABLE cpu(number INTEGER PRIMARY KEY, owner BLOB)");
    sqlite_do(store->db, "CREATE INDEX cpu_owner ON cpu(owner)");
    sqlite_do(store->db, "CREATE TABLE block(numa INTEGER, addr INTEGER, bytes INTEGER, owner BLOB,"
                         " PRIMARY KEY(numa, addr)) WITHOUT ROWID");
    sqlite_do(store->db, "CREATE INDEX block_owner ON block(owner)");
    for (unsigned i = 0; i < SQLITE_STATEMENTS; i++) {
        if (sqlite3_prepare_v2(store->db, sqlite_texts[i], -1, &store->statements[i], NULL) !=
            SQLITE_OK) {
            bench_die("sqlite: %s", sqlite3_errmsg(store->db));
        }
    }
    return store;
}

static void sqlite_run(struct sqlite_store *store, enum sqlite_statement which)
{
    sqlite3_stmt *statement = store->statements[which];
    if (sqlite3_step(statement) != SQLITE_DONE) {
        bench_die("sqlite: %s", sqlite3_errmsg(store->db));
    }
    (void)sqlite3_reset(statement);
}

static sqlite3_stmt *sqlite_with_id(struct sqlite_store *store, enum sqlite_statement which,
                                    const struct vdc_id *id)
{
    (void)sqlite3_bind_blob(store->statements[which], 1, id->bytes, sizeof(id->bytes),
                            SQLITE_STATIC);
    return store->statements[which];
}

static void sqlite_append(void *ptr, uint64_t first, const struct bench_item *items, unsigned len)
{
    struct sqlite_store *store = ptr;
    sqlite_do(store->db, "BEGIN");
    for (unsigned i = 0; i < len; i++) {
        sqlite3_stmt *statement = store->statements[SQLITE_RECORD];
        (void)sqlite3_bind_int64(statement, 1, (sqlite3_int64)(first + i));
        (void)sqlite3_bind_blob(statement, 2, items[i].record.data, (int)items[i].record.len,
                                SQLITE_STATIC);
        sqlite_run(store, SQLITE_RECORD);
    }
    sqlite_do(store->db, "COMMIT");
}

static void sqlite_apply_op(struct sqlite_store *store, const struct vdc_op *op)
{
    sqlite3_stmt *statement;
    if (op->kind == VDC_OP_PARTITION_CREATE) {
        const struct vdc_op_partition_create *create = &op->partition_create;
        statement = sqlite_with_id(store, SQLITE_PARTITION, &create->id);
        (void)sqlite3_bind_text(statement, 2, create->name, -1, SQLITE_STATIC);
        (void)sqlite3_bind_text(statement, 3, create->tenant, -1, SQLITE_STATIC);
        (void)sqlite3_bind_text(statement, 4, create->class_name, -1, SQLITE_STATIC);
        (void)sqlite3_bind_int64(statement, 5, create->vcpus);
        (void)sqlite3_bind_int64(statement, 6, (sqlite3_int64)create->memory_bytes);
        (void)sqlite3_bind_blob(statement, 7, create->config, (int)create->config_len,
                                SQLITE_STATIC);
        sqlite_run(store, SQLITE_PARTITION);
    } else if (op->kind == VDC_OP_CPU_ASSIGN) {
        statement = sqlite_with_id(store, SQLITE_CPU, &op->cpu_assign.id);
        for (uint32_t i = 0; i < op->cpu_assign.cpus_len; i++) {
            (void)sqlite3_bind_int64(statement, 2, op->cpu_assign.cpus[i]);
            sqlite_run(store, SQLITE_CPU);
        }
    } else if (op->kind == VDC_OP_MEMORY_ASSIGN) {
        statement = sqlite_with_id(store, SQLITE_BLOCK, &op->memory_assign.id);
        for (uint32_t i = 0; i < op->memory_assign.blocks_len; i++) {
            const struct vdc_memory_block *block = &op->memory_assign.blocks[i];
            (void)sqlite3_bind_int64(statement, 2, block->numa);
            (void)sqlite3_bind_int64(statement, 3, (sqlite3_int64)block->addr);
            (void)sqlite3_bind_int64(statement, 4, (sqlite3_int64)block->bytes);
            sqlite_run(store, SQLITE_BLOCK);
        }
    } else if (op->kind == VDC_OP_PARTITION_DESTROY) {
        static const enum sqlite_statement all[] = {SQLITE_NO_PARTITION, SQLITE_NO_CPUS,
                                                    SQLITE_NO_BLOCKS};
        for (unsigned i = 0; i < VDC_COUNT_OF(all); i++) {
            (void)sqlite_with_id(store, all[i], &op->partition_destroy.id);
            sqlite_run(store, all[i]);
        }
    }
}

static void sqlite_apply(void *ptr, uint64_t first, const struct bench_item *items, unsigned len)
{
    struct sqlite_store *store = ptr;
    (void)first;
    sqlite_do(store->db, "BEGIN");
    for (unsigned i = 0; i < len; i++) {
        for (uint32_t o = 0; o < items[i].tx.ops_len; o++) {
            sqlite_apply_op(store, &items[i].tx.ops[o]);
        }
    }
    sqlite_do(store->db, "COMMIT");
}

static void sqlite_end(void *ptr)
{
    struct sqlite_store *store = ptr;
    for (unsigned i = 0; i < SQLITE_STATEMENTS; i++) {
        (void)sqlite3_finalize(store->statements[i]);
    }
    (void)sqlite3_close(store->db);
    free(store);
}
#endif

#ifdef VDC_BENCH_LMDB
#include <lmdb.h>

/* Address space; the file grows as it is used. */
#define LMDB_MAP_BYTES ((size_t)64 << 30)

/* Of the databases in the environment. */
#define LMDB_DATABASES 5

struct lmdb_store {
    MDB_env *env;
    MDB_dbi records;    /* by sequence */
    MDB_dbi partitions; /* by id: struct vdc_op_partition_create, then its configuration */
    MDB_dbi cpus;       /* by number: id */
    MDB_dbi blocks;     /* by address: id */
    MDB_dbi holdings;   /* by id: duplicates, each a struct lmdb_holding */
};

/* One CPU or block of a partition, so that destroying it finds them. */
struct lmdb_holding {
    uint64_t bytes; /* 0: `at` is a CPU's number */
    uint64_t at;    /* NUMA node << 48 | address */
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
    lmdb_check(mdb_env_set_maxdbs(store->env, LMDB_DATABASES), "databases");
    lmdb_check(mdb_env_open(store->env, dir, 0, 0600), "open");
    lmdb_check(mdb_txn_begin(store->env, NULL, 0, &txn), "begin");
    unsigned number = MDB_CREATE | MDB_INTEGERKEY;
    lmdb_check(mdb_dbi_open(txn, "records", number, &store->records), "records");
    lmdb_check(mdb_dbi_open(txn, "partitions", MDB_CREATE, &store->partitions), "partitions");
    lmdb_check(mdb_dbi_open(txn, "cpus", number, &store->cpus), "cpus");
    lmdb_check(mdb_dbi_open(txn, "blocks", number, &store->blocks), "blocks");
    lmdb_check(
        mdb_dbi_open(txn, "holdings", MDB_CREATE | MDB_DUPSORT | MDB_DUPFIXED, &store->holdings),
        "holdings");
    lmdb_check(mdb_txn_commit(txn), "commit");
    return store;
}

static void lmdb_append(void *ptr, uint64_t first, const struct bench_item *items, unsigned len)
{
    struct lmdb_store *store = ptr;
    MDB_txn *txn;
    lmdb_check(mdb_txn_begin(store->env, NULL, 0, &txn), "begin");
    for (unsigned i = 0; i < len; i++) {
        size_t sequence = first + i;
        MDB_val key = {sizeof(sequence), &sequence};
        MDB_val data = {items[i].record.len, items[i].record.data};
        lmdb_check(mdb_put(txn, store->records, &key, &data, MDB_APPEND), "put");
    }
    lmdb_check(mdb_txn_commit(txn), "commit");
}

static void lmdb_create(struct lmdb_store *store, MDB_txn *txn,
                        const struct vdc_op_partition_create *create)
{
    struct vdc_id id = create->id;
    MDB_val key = {sizeof(id), &id};
    MDB_val data = {sizeof(*create) + create->config_len, NULL};
    lmdb_check(mdb_put(txn, store->partitions, &key, &data, MDB_RESERVE), "put");
    memcpy(data.mv_data, create, sizeof(*create));
    memcpy((char *)data.mv_data + sizeof(*create), create->config, create->config_len);
}

static void lmdb_hold(struct lmdb_store *store, MDB_txn *txn, struct vdc_id id,
                      struct lmdb_holding holding)
{
    size_t at = holding.at;
    MDB_val number = {sizeof(at), &at};
    MDB_val owner = {sizeof(id), &id};
    MDB_val held = {sizeof(holding), &holding};
    MDB_dbi dbi = holding.bytes == 0 ? store->cpus : store->blocks;
    lmdb_check(mdb_put(txn, dbi, &number, &owner, 0), "put");
    lmdb_check(mdb_put(txn, store->holdings, &owner, &held, 0), "put");
}

static void lmdb_destroy(struct lmdb_store *store, MDB_txn *txn, struct vdc_id id)
{
    MDB_cursor *cursor;
    MDB_val key = {sizeof(id), &id};
    MDB_val data;
    lmdb_check(mdb_cursor_open(txn, store->holdings, &cursor), "cursor");
    int rc = mdb_cursor_get(cursor, &key, &data, MDB_SET_KEY);
    for (; rc == 0; rc = mdb_cursor_get(cursor, &key, &data, MDB_NEXT_DUP)) {
        struct lmdb_holding holding;
        memcpy(&holding, data.mv_data, sizeof(holding));
        size_t at = holding.at;
        MDB_val number = {sizeof(at), &at};
        lmdb_check(mdb_del(txn, holding.bytes == 0 ? store->cpus : store->blocks, &number, NULL),
                   "delete");
    }
    mdb_cursor_close(cursor);
    key = (MDB_val){sizeof(id), &id};
    lmdb_check(mdb_del(txn, store->holdings, &key, NULL), "delete");
    lmdb_check(mdb_del(txn, store->partitions, &key, NULL), "delete");
}

static void lmdb_apply_op(struct lmdb_store *store, MDB_txn *txn, const struct vdc_op *op)
{
    if (op->kind == VDC_OP_PARTITION_CREATE) {
        lmdb_create(store, txn, &op->partition_create);
    } else if (op->kind == VDC_OP_CPU_ASSIGN) {
        for (uint32_t i = 0; i < op->cpu_assign.cpus_len; i++) {
            lmdb_hold(store, txn, op->cpu_assign.id,
                      (struct lmdb_holding){.at = op->cpu_assign.cpus[i]});
        }
    } else if (op->kind == VDC_OP_MEMORY_ASSIGN) {
        for (uint32_t i = 0; i < op->memory_assign.blocks_len; i++) {
            const struct vdc_memory_block *block = &op->memory_assign.blocks[i];
            lmdb_hold(store, txn, op->memory_assign.id,
                      (struct lmdb_holding){.bytes = block->bytes,
                                            .at = (uint64_t)block->numa << 48 | block->addr});
        }
    } else if (op->kind == VDC_OP_PARTITION_DESTROY) {
        lmdb_destroy(store, txn, op->partition_destroy.id);
    }
}

static void lmdb_apply(void *ptr, uint64_t first, const struct bench_item *items, unsigned len)
{
    struct lmdb_store *store = ptr;
    MDB_txn *txn;
    (void)first;
    lmdb_check(mdb_txn_begin(store->env, NULL, 0, &txn), "begin");
    for (unsigned i = 0; i < len; i++) {
        for (uint32_t o = 0; o < items[i].tx.ops_len; o++) {
            lmdb_apply_op(store, txn, &items[i].tx.ops[o]);
        }
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
    {"sqlite", sqlite_begin, sqlite_apply, sqlite_append, sqlite_end},
#endif
#ifdef VDC_BENCH_LMDB
    {"lmdb", lmdb_begin, lmdb_apply, lmdb_append, lmdb_end},
#endif
    {0},
};
