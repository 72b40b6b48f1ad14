/* The C driver against the simulated core: runs the jobs of a file (core_run.write_cases) and compares every result.
 *
 * usage: program CASES SEED STALL   (STALL: probability of a stall on each channel, in 1/65536)
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bitkiln_matmul.h"
#include "core_shim.h"
#include "matmul_registers.h"

#define PATIENCE 100000u
#define WORDS 11
#define WIDTHS 4
#define PARTS 7
#define ALWAYS 65536u /* a stall in every cycle */

#define GET(name, word) (((word) & name##_MASK) >> name##_SHIFT)

typedef struct matrix {
    uint32_t rows, bytes;
    uint8_t *data;
} matrix;

static uint32_t dice, stall;

static uint32_t random_below(uint32_t limit) {
    dice = dice * 1664525u + 1013904223u;
    return (dice >> 8) % limit;
}

static void fail(const char *what, long number) {
    fprintf(stderr, "%s: %ld\n", what, number);
    exit(1);
}

/* ---- The bus of the driver ----------------------------------------------------------------- */

static uint32_t sim_read32(void *core, uint32_t address) {
    uint32_t value;
    const int response = core_read32(core, address, &value, PATIENCE);

    if (response) fail("read answered with", response);
    return value;
}

static void sim_write32(void *core, uint32_t address, uint32_t value) {
    const int response = core_write32(core, address, value, 15, PATIENCE);

    if (response) fail("write answered with", response);
}

/* A small FIFO in front of each stream; time passes now and then. */
static uint32_t sim_send(void *core, bk_stream stream, const uint8_t *beats, uint32_t count) {
    const uint64_t waiting = core_waiting(core, (int)stream);
    const uint32_t room = waiting < 8 ? 8 - (uint32_t)waiting : 0;
    const uint32_t taken = count < room ? count : room;

    core_send(core, (int)stream, beats, taken);
    core_step(core, 1 + random_below(4));
    return taken;
}

/* How the far side of the results behaves: always ready, ready only while asked for beats, or never. */
static enum { READY, ASKED, DEAF } receiver = READY;

static void hear(void *core, int how) {
    receiver = how;
    core_stall(core, CORE_OUT, how == READY ? stall : ALWAYS);
}

static uint32_t sim_receive(void *core, uint8_t *beats, uint32_t count) {
    if (receiver == ASKED) core_stall(core, CORE_OUT, 0);
    core_step(core, 1);
    if (receiver == ASKED) core_stall(core, CORE_OUT, ALWAYS);
    return receiver == DEAF ? 0 : (uint32_t)core_take(core, beats, NULL, NULL, count);
}

/* ---- Cases --------------------------------------------------------------------------------- */

static void get(FILE *file, void *into, size_t bytes) {
    if (bytes && fread(into, bytes, 1, file) != 1) fail("cases end early", ftell(file));
}

static matrix get_matrix(FILE *file) {
    matrix m;

    get(file, &m.rows, 4);
    get(file, &m.bytes, 4);
    m.data = malloc((size_t)m.rows * m.bytes + 1);
    if (!m.data) fail("out of memory", (long)m.rows);
    get(file, m.data, (size_t)m.rows * m.bytes);
    return m;
}

static bk_job job_of(const uint32_t *words, const uint32_t *widths) {
    bk_job job;

    memset(&job, 0, sizeof job);
    job.mode = (uint8_t)GET(MATMUL_JOB_MODE_MODE, words[0]);
#ifdef MATMUL_JOB_MODE_OUTPUT_SHIFT
    job.output = (uint8_t)GET(MATMUL_JOB_MODE_OUTPUT, words[0]);
#endif
#ifdef MATMUL_JOB_MODE_BLOCK_SHIFT
    job.block = (uint8_t)GET(MATMUL_JOB_MODE_BLOCK, words[0]);
#endif
    job.m = words[1];
    job.k = words[2];
    job.n = words[3];
    job.rule = (uint8_t)GET(MATMUL_JOB_FLAGS_RULE, words[4]);
    job.order = (uint8_t)GET(MATMUL_JOB_FLAGS_ORDER, words[4]);
#ifdef MATMUL_JOB_FLAGS_PER_CHANNEL_SHIFT
    job.per_channel = GET(MATMUL_JOB_FLAGS_PER_CHANNEL, words[4]) != 0;
#endif
#ifdef MATMUL_JOB_FLAGS_BIAS_SHIFT
    job.bias = GET(MATMUL_JOB_FLAGS_BIAS, words[4]) != 0;
#endif
#ifdef MATMUL_JOB_FLAGS_ACCUMULATE_SHIFT
    job.accumulate = GET(MATMUL_JOB_FLAGS_ACCUMULATE, words[4]) != 0;
#endif
#ifdef MATMUL_JOB_FLAGS_CLAMP_SHIFT
    job.clamp = GET(MATMUL_JOB_FLAGS_CLAMP, words[4]) != 0;
#endif
    job.scale = words[5];
#ifdef MATMUL_JOB_SHIFT_SHIFT_SHIFT
    job.shift = (uint8_t)GET(MATMUL_JOB_SHIFT_SHIFT, words[6]);
#endif
#ifdef MATMUL_JOB_SHIFT_BIAS_SHIFT_SHIFT
    job.bias_shift = (uint8_t)GET(MATMUL_JOB_SHIFT_BIAS_SHIFT, words[6]);
#endif
    job.zero_point = (int16_t)(uint16_t)words[7];
    job.clamp_low = words[8];
    job.clamp_high = words[9];
    job.tag = (uint16_t)words[10];
    job.a_bits = (uint8_t)widths[0];
    job.w_bits = (uint8_t)widths[1];
    job.result_bits = (uint16_t)widths[2];
    job.block_size = (uint16_t)widths[3];
    return job;
}

static bk_rows rows_of(matrix m) {
    bk_rows rows;

    rows.data = m.data;
    rows.stride = m.bytes;
    return rows;
}

static void expect(const char *what, bk_status got, bk_status wanted) {
    if (got == wanted) return;
    fprintf(stderr, "%s: %s, expected %s\n", what, bk_error_string(got), bk_error_string(wanted));
    exit(1);
}

/* Results lie in memory of their own. */
static bk_operands operands_of(const matrix *parts) {
    bk_operands operands;

    operands.a = rows_of(parts[0]);
    operands.w = rows_of(parts[1]);
    operands.a_scales = rows_of(parts[2]);
    operands.w_scales = rows_of(parts[3]);
    operands.c = rows_of(parts[4]);
    operands.records = parts[6].data;
    operands.results = calloc((size_t)parts[5].rows * parts[5].bytes + 1, 1);
    operands.result_stride = parts[5].bytes;
    if (!operands.results) fail("out of memory", (long)parts[5].rows);
    return operands;
}

/* One job from start to compared results; elements that differ are counted in bytes. */
static long run(const bk_core *core, const bk_job *job, const matrix *parts) {
    const matrix *wanted = &parts[5];
    const size_t size = (size_t)wanted->rows * wanted->bytes;
    bk_operands operands = operands_of(parts);
    long wrong = 0;
    size_t at;

    expect("check", bk_job_check(core, job), BK_OK);
    expect("start", bk_start(core, job), BK_OK);
    expect("transfer", bk_transfer(core, job, &operands, PATIENCE), BK_OK);
    expect("wait", bk_wait(core, PATIENCE), BK_OK);
    for (at = 0; at < size; ++at) wrong += operands.results[at] != wanted->data[at];
    free(operands.results);
    return wrong;
}

int main(int count, char **arguments) {
    bk_core core;
    bk_bus bus;
    bk_counts counts;
    bk_job job, bad;
    bk_operands operands;
    matrix parts[PARTS];
    uint32_t words[WORDS], widths[WIDTHS], cases, at, part;
    uint64_t macs = 0;
    uint16_t tag;
    long wrong = 0;
    FILE *file;
    void *sim;
    int channel;

    if (count != 4 || !(file = fopen(arguments[1], "rb"))) fail("usage: program CASES SEED STALL, arguments", count);
    dice = (uint32_t)strtoul(arguments[2], NULL, 0);
    stall = (uint32_t)strtoul(arguments[3], NULL, 0);
    sim = core_new(dice);
    for (channel = 0; channel < CORE_CHANNELS; ++channel) core_stall(sim, channel, stall);
    core_reset(sim, 2);
    bus.context = sim;
    bus.read32 = sim_read32;
    bus.write32 = sim_write32;
    bus.send = sim_send;
    bus.receive = sim_receive;
    expect("init", bk_init(&core, &bus), BK_OK);
    bk_clear_counters(&core);
    get(file, &cases, 4);
    for (at = 0; at < cases; ++at) {
        get(file, words, sizeof words);
        get(file, widths, sizeof widths);
        job = job_of(words, widths);
        for (part = 0; part < PARTS; ++part) parts[part] = get_matrix(file);
        macs += (uint64_t)job.m * job.k * job.n;
        wrong += run(&core, &job, parts);
        if (at + 1 < cases)
            for (part = 0; part < PARTS; ++part) free(parts[part].data);
    }
    fclose(file);
    bk_counters(&core, &counts);
#ifdef MATMUL_MACS_OFFSET
    if (counts.macs != macs) fail("products counted", (long)counts.macs);
#endif

    /* What must be refused, by the driver and by the core. */
    bad = job;
    bad.mode = 15;
    expect("wrong mode", bk_start(&core, &bad), BK_MODE);
    bad = job;
    bad.k = core.k_words * 16u / job.a_bits + 1;
    expect("K too large", bk_start(&core, &bad), BK_SHAPE);
    sim_write32(sim, MATMUL_JOB_K_OFFSET, 0);
    sim_write32(sim, MATMUL_CTRL_OFFSET, MATMUL_CTRL_START_MASK);
    if (!(bk_events(&core) & MATMUL_IRQ_ERROR_MASK)) fail("no error event", 0);
    expect("K of 0", bk_error(&core, &tag), BK_SHAPE);
    if (tag != job.tag) fail("tag of the error", tag);
    expect("error cleared", bk_error(&core, NULL), BK_OK);

    /* A full queue, results that nobody takes, an error; an abort ends all of that, and the last job runs again. */
    for (at = 0; at <= core.queue; ++at) expect("queue", bk_start(&core, &job), BK_OK);
    expect("queue full", bk_start(&core, &job), BK_QUEUE_FULL);
    hear(sim, DEAF);
    operands = operands_of(parts);
    expect("transfer to nobody", bk_transfer(&core, &job, &operands, 1000), BK_TIMEOUT);
    free(operands.results);
    sim_write32(sim, MATMUL_JOB_K_OFFSET, 0);
    sim_write32(sim, MATMUL_CTRL_OFFSET, MATMUL_CTRL_START_MASK);
    core_flush(sim);
    hear(sim, ASKED);
    expect("abort", bk_abort(&core, PATIENCE), BK_OK);
    expect("error after the abort", bk_error(&core, NULL), BK_OK);
    hear(sim, READY);
    core_step(sim, 1000);
    core_flush(sim);
    wrong += run(&core, &job, parts);
    for (part = 0; part < PARTS; ++part) free(parts[part].data);

    if (core_violations(sim)) {
        fprintf(stderr, "broken protocol: %s\n", core_first_violation(sim));
        return 1;
    }
    printf("jobs %lu wrong %ld cycles %llu\n", (unsigned long)cases + 1, wrong,
           (unsigned long long)core_cycles(sim));
    core_free(sim);
    return wrong != 0;
}
