// A verilated LinkedCore as a library: its serial pins, driven and sampled bit by bit like the other end of a cable.
// Compiled by board_run.py, with BOARD_MUTANT as the port that chooses a bug where there are some (mutate_link.py).
#include "Vtop.h"

#include <cstdint>
#include <deque>

#define API extern "C" __attribute__((visibility("default")))

namespace {

// Times are in 1/256 clock cycles, so that the far side's clock may be a little off.
constexpr uint64_t CYCLE = 256;

struct Board {
    VerilatedContext context;
    Vtop top{&context};
    uint64_t cycles = 0, bit;
    std::deque<uint8_t> out, in;
    // To the board: what is left of a byte, lowest bit first, and when its bit ends.
    uint32_t sending = 0;
    int left = 0;
    uint64_t ends = 0;
    // From the board: bits taken, and when the next is.
    uint32_t taking = 0;
    int taken = -1;
    uint64_t sample = 0;
    uint64_t broken = 0;  // stop bits that were low
    bool held = false;    // the line is cut: idle, nothing arrives

    explicit Board(uint64_t seed, uint64_t bit_time, uint32_t mutant) : bit(bit_time) {
        context.randReset(2);
        context.randSeed(int(seed));
#ifdef BOARD_MUTANT
        top.BOARD_MUTANT = mutant;
#else
        (void)mutant;
#endif
        top.rx = 1;
        top.clk = 0;
        top.rst = 1;
        for (int at = 0; at < 4; at++) step();
        top.rst = 0;
    }

    void step() {
        uint64_t now = cycles * CYCLE;
        drive(now);
        top.eval();
        listen(now);
        top.clk = 1;
        top.eval();
        top.clk = 0;
        cycles++;
    }

    void drive(uint64_t now) {
        if (left && now >= ends) {
            left--;
            sending >>= 1;
            ends += bit;
        }
        if (!left && !out.empty() && !held) {
            sending = (uint32_t(out.front()) << 1) | 0x200;
            out.pop_front();
            left = 10;
            ends = (ends > now - bit && ends <= now ? ends : now) + bit;
        }
        top.rx = left ? sending & 1 : 1;
    }

    void listen(uint64_t now) {
        if (taken < 0) {
            if (!top.tx) {
                taken = 0;
                taking = 0;
                sample = now + bit / 2;
            }
        } else if (now >= sample) {
            if (taken == 0 && top.tx) {
                taken = -1;
                return;
            }
            if (taken > 0 && taken < 9) taking |= uint32_t(top.tx) << (taken - 1);
            sample += bit;
            if (taken++ == 9) {
                if (!top.tx) broken++;
                else if (!held) in.push_back(uint8_t(taking));
                taken = -1;
            }
        }
    }
};

Board* of(void* board) { return static_cast<Board*>(board); }

}  // namespace

API void* board_new(uint64_t seed, uint64_t bit_time, uint32_t mutant) { return new Board(seed, bit_time, mutant); }
API void board_free(void* board) { delete of(board); }
API uint64_t board_cycles(void* board) { return of(board)->cycles; }
API uint64_t board_broken(void* board) { return of(board)->broken; }
API void board_cut(void* board, int cut) {
    of(board)->held = cut;
    of(board)->out.clear();
    of(board)->in.clear();
}

API void board_reset(void* board, uint32_t cycles) {
    of(board)->top.rst = 1;
    for (uint32_t at = 0; at < cycles; at++) of(board)->step();
    of(board)->top.rst = 0;
}

API void board_write(void* board, const uint8_t* bytes, uint64_t count) {
    of(board)->out.insert(of(board)->out.end(), bytes, bytes + count);
}

// Until a byte has arrived, at most so many cycles.
API uint64_t board_wait(void* board, uint64_t cycles) {
    Board* b = of(board);
    for (; cycles && b->in.empty(); cycles--) b->step();
    return b->in.size();
}

API void board_step(void* board, uint64_t cycles) {
    for (; cycles; cycles--) of(board)->step();
}

API uint64_t board_take(void* board, uint8_t* bytes, uint64_t most) {
    Board* b = of(board);
    uint64_t at = 0;
    for (; at < most && !b->in.empty(); at++) {
        bytes[at] = b->in.front();
        b->in.pop_front();
    }
    return at;
}
