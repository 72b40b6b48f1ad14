// The library of core_shim.h over a verilated core. Compiled with the macros that core_run.py writes before it:
// CORE_BUS_BYTES, CORE_HAS_STREAMS, CORE_HAS_C, CORE_HAS_MASTER.
#include "Vtop.h"

#include <cstdint>
#include <cstring>
#include <deque>
#include <string>
#include <vector>

#include "core_shim.h"

#define API extern "C" __attribute__((visibility("default")))

namespace {

constexpr size_t BUS = CORE_BUS_BYTES;
constexpr size_t OUTSTANDING = 8;  // bursts that the memory accepts ahead
constexpr size_t PAGE = 4096;

using Beat = std::vector<uint8_t>;

struct Random {
    uint64_t state;
    explicit Random(uint64_t seed) : state(seed * 0x9E3779B97F4A7C15ull + 0x1234567ull) {
        if (!state) state = 1;
    }
    uint32_t next() {  // xorshift64*, upper bits
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        return uint32_t((state * 0x2545F4914F6CDD1Dull) >> 32);
    }
};

template <class T> void put(T& port, const uint8_t* bytes, size_t count) { std::memcpy(&port, bytes, count); }
template <class T> void get(const T& port, uint8_t* bytes, size_t count) { std::memcpy(bytes, &port, count); }

// What the core offers on a channel must stay until it is taken.
struct Watch {
    bool held = false;
    Beat payload;
};

struct Payload {  // of a data channel; no padding, so that it can be compared as bytes
    uint64_t mask = 0, last = 0;
    uint8_t data[(BUS + 7) / 8 * 8] = {};
};

struct Source {  // beats for a stream
    Beat bytes;
    uint64_t at = 0;  // next byte to offer
    bool offered = false;
    std::deque<uint64_t> ends;  // byte counts where a packet ends
    void compact() {
        if (at > (1u << 22) && at * 2 > bytes.size()) {
            bytes.erase(bytes.begin(), bytes.begin() + at);
            for (auto& end : ends) end -= at;
            at = 0;
        }
    }
};

struct Burst {
    uint64_t address;
    uint32_t beats;
    bool error;
    uint32_t done = 0;
};

struct Core {
    VerilatedContext context;
    Vtop top{&context, "top"};
    Random random;
    uint32_t stall[CORE_CHANNELS] = {};
    uint64_t cycles = 0, moved = 0, violations = 0;
    std::string first;

    // AXI4-Lite: one access at a time.
    bool aw_wanted = false, w_wanted = false, b_wanted = false, ar_wanted = false, r_wanted = false;
    uint32_t r_data = 0;
    int response = CORE_DEAD;
    Watch watch_b, watch_r, watch_out, watch_aw, watch_w, watch_ar;

    Source source[CORE_STREAMS];
    Beat results;
    std::vector<uint64_t> keeps;
    std::vector<uint8_t> lasts;
    uint64_t taken = 0;

    Beat memory;
    std::deque<Burst> reads, writes;
    std::deque<bool> answers;

    explicit Core(uint64_t seed) : random(seed) {
        top.aclk = 0;
        top.aresetn = 0;
        top.s_axil_awvalid = top.s_axil_wvalid = top.s_axil_bready = top.s_axil_arvalid = top.s_axil_rready = 0;
        top.s_axil_awaddr = top.s_axil_araddr = 0;
        top.s_axil_awprot = top.s_axil_arprot = 0;
        top.s_axil_wdata = 0;
        top.s_axil_wstrb = 0;
        idle();
        top.eval();
    }

    void idle() {
        top.s_axil_awvalid = top.s_axil_wvalid = top.s_axil_bready = top.s_axil_arvalid = top.s_axil_rready = 0;
        aw_wanted = w_wanted = b_wanted = ar_wanted = r_wanted = false;
        watch_b.held = watch_r.held = watch_out.held = watch_aw.held = watch_w.held = watch_ar.held = false;
        for (auto& each : source) each.offered = false;
#if CORE_HAS_STREAMS
        top.s_axis_a_tvalid = top.s_axis_w_tvalid = top.s_axis_a_tlast = top.s_axis_w_tlast = 0;
        std::memset(&top.s_axis_a_tdata, 0, sizeof(top.s_axis_a_tdata));
        std::memset(&top.s_axis_w_tdata, 0, sizeof(top.s_axis_w_tdata));
#if CORE_HAS_C
        top.s_axis_c_tvalid = top.s_axis_c_tlast = 0;
        std::memset(&top.s_axis_c_tdata, 0, sizeof(top.s_axis_c_tdata));
#endif
        top.m_axis_tready = 0;
#endif
#if CORE_HAS_MASTER
        top.m_axi_awready = top.m_axi_wready = top.m_axi_bvalid = top.m_axi_arready = top.m_axi_rvalid = 0;
        top.m_axi_bresp = top.m_axi_rresp = 0;
        top.m_axi_rlast = top.m_axi_rid = top.m_axi_bid = 0;
        std::memset(&top.m_axi_rdata, 0, sizeof(top.m_axi_rdata));
        reads.clear();
        writes.clear();
        answers.clear();
#endif
    }

    bool go(int channel) { return !stall[channel] || (random.next() >> 16) >= stall[channel]; }

    void broken(const char* what) {
        if (!violations++) first = "cycle " + std::to_string(cycles) + ": " + what;
    }

    // Rule: valid stays, with the same payload, until ready.
    template <class T> void keep(Watch& watch, bool valid, bool ready, const T& payload, const char* what) {
        const uint8_t* bytes = reinterpret_cast<const uint8_t*>(&payload);
        if (watch.held && (!valid || std::memcmp(watch.payload.data(), bytes, sizeof(T)))) broken(what);
        watch.held = valid && !ready;
        if (watch.held) watch.payload.assign(bytes, bytes + sizeof(T));
    }

    template <class T> void offer(int stream, int channel, bool taken_now, uint8_t& valid, T& data, uint8_t& last) {
        Source& from = source[stream];
        if (taken_now) {
            from.at += BUS;
            from.offered = false;
            ++moved;
            while (!from.ends.empty() && from.ends.front() <= from.at) from.ends.pop_front();
            from.compact();
        }
        if (!from.offered && from.at < from.bytes.size() && go(channel)) {
            from.offered = true;
            put(data, &from.bytes[from.at], BUS);
            last = !from.ends.empty() && from.ends.front() == from.at + BUS;
        }
        valid = from.offered;
    }

    void cycle() {
        // Handshakes of the coming edge.
        const bool aw = top.s_axil_awvalid && top.s_axil_awready, w = top.s_axil_wvalid && top.s_axil_wready;
        const bool ar = top.s_axil_arvalid && top.s_axil_arready;
        const bool b = top.s_axil_bvalid && top.s_axil_bready, r = top.s_axil_rvalid && top.s_axil_rready;
        if (b) response = top.s_axil_bresp;
        if (r) {
            response = top.s_axil_rresp;
            r_data = top.s_axil_rdata;
        }
        if (top.aresetn) {
            keep(watch_b, top.s_axil_bvalid, b, top.s_axil_bresp, "s_axil b changed before it was taken");
            const uint64_t answer = uint64_t(top.s_axil_rdata) << 2 | top.s_axil_rresp;
            keep(watch_r, top.s_axil_rvalid, r, answer, "s_axil r changed before it was taken");
            if (b && !b_wanted) broken("s_axil b without a write");
            if (r && !r_wanted) broken("s_axil r without a read");
        }
#if CORE_HAS_STREAMS
        const bool sa = top.s_axis_a_tvalid && top.s_axis_a_tready, sw = top.s_axis_w_tvalid && top.s_axis_w_tready;
#if CORE_HAS_C
        const bool sc = top.s_axis_c_tvalid && top.s_axis_c_tready;
#endif
        if (top.aresetn) {
            const bool out = top.m_axis_tvalid && top.m_axis_tready;
            Payload payload;
            get(top.m_axis_tdata, payload.data, BUS);
            payload.mask = top.m_axis_tkeep;
            payload.last = top.m_axis_tlast;
            keep(watch_out, top.m_axis_tvalid, out, payload, "m_axis changed before it was taken");
            if (out) {
                results.insert(results.end(), payload.data, payload.data + BUS);
                keeps.push_back(payload.mask);
                lasts.push_back(payload.last);
                ++moved;
            }
        }
#endif
#if CORE_HAS_MASTER
        memory_edge();
#endif
        top.aclk = 1;
        top.eval();
        ++cycles;

        // Drive until the next edge.
        if (aw) aw_wanted = false;
        if (w) w_wanted = false;
        if (ar) ar_wanted = false;
        if (b) b_wanted = false;
        if (r) r_wanted = false;
        // What is offered stays; what is not yet may be held back.
        top.s_axil_awvalid = aw_wanted && ((top.s_axil_awvalid && !aw) || go(CORE_AW));
        top.s_axil_wvalid = w_wanted && ((top.s_axil_wvalid && !w) || go(CORE_W));
        top.s_axil_arvalid = ar_wanted && ((top.s_axil_arvalid && !ar) || go(CORE_AR));
        top.s_axil_bready = b_wanted && go(CORE_B);
        top.s_axil_rready = r_wanted && go(CORE_R);
#if CORE_HAS_STREAMS
        offer(CORE_A, CORE_STREAM_A, sa, top.s_axis_a_tvalid, top.s_axis_a_tdata, top.s_axis_a_tlast);
        offer(CORE_WEIGHTS, CORE_STREAM_W, sw, top.s_axis_w_tvalid, top.s_axis_w_tdata, top.s_axis_w_tlast);
#if CORE_HAS_C
        offer(CORE_C, CORE_STREAM_C, sc, top.s_axis_c_tvalid, top.s_axis_c_tdata, top.s_axis_c_tlast);
#endif
        top.m_axis_tready = go(CORE_OUT);
#endif
#if CORE_HAS_MASTER
        memory_drive();
#endif
        top.aclk = 0;
        top.eval();
    }

#if CORE_HAS_MASTER
    bool r_taken = false, b_taken = false;

    bool inside(uint64_t address, uint64_t count) const { return address + count <= memory.size(); }

    Burst burst(uint64_t address, uint32_t len, uint32_t size, uint32_t kind, const char* what) {
        const uint64_t count = (uint64_t(len) + 1) * BUS;
        if (kind != 1 || (1u << size) != BUS || address % BUS || address / PAGE != (address + count - 1) / PAGE)
            broken(what);
        return {address, len + 1, !inside(address, count)};
    }

    void memory_edge() {
        if (!top.aresetn) return;
        const bool ar = top.m_axi_arvalid && top.m_axi_arready, aw = top.m_axi_awvalid && top.m_axi_awready;
        const bool w = top.m_axi_wvalid && top.m_axi_wready;
        r_taken = top.m_axi_rvalid && top.m_axi_rready;
        b_taken = top.m_axi_bvalid && top.m_axi_bready;
        struct { uint64_t address, len, size, kind; } order = {top.m_axi_araddr, top.m_axi_arlen, top.m_axi_arsize,
                                                               top.m_axi_arburst};
        keep(watch_ar, top.m_axi_arvalid, ar, order, "m_axi ar changed before it was taken");
        if (ar) reads.push_back(burst(order.address, order.len, order.size, order.kind, "illegal read burst"));
        order = {top.m_axi_awaddr, top.m_axi_awlen, top.m_axi_awsize, top.m_axi_awburst};
        keep(watch_aw, top.m_axi_awvalid, aw, order, "m_axi aw changed before it was taken");
        if (aw) writes.push_back(burst(order.address, order.len, order.size, order.kind, "illegal write burst"));
        Payload payload;
        get(top.m_axi_wdata, payload.data, BUS);
        payload.mask = top.m_axi_wstrb;
        payload.last = top.m_axi_wlast;
        keep(watch_w, top.m_axi_wvalid, w, payload, "m_axi w changed before it was taken");
        if (w) {
            Burst& into = writes.front();  // wready is given only where one waits
            const uint64_t address = into.address + uint64_t(into.done++) * BUS;
            for (size_t n = 0; n < BUS && !into.error; ++n)
                if (payload.mask >> n & 1) memory[address + n] = payload.data[n];
            if (bool(payload.last) != (into.done == into.beats)) broken("m_axi wlast in the wrong place");
            if (into.done == into.beats) {
                answers.push_back(into.error);
                writes.pop_front();
            }
        }
        if (b_taken) answers.pop_front();
        if (r_taken && ++reads.front().done == reads.front().beats) reads.pop_front();
        moved += ar + aw + w + r_taken + b_taken;
    }

    void memory_drive() {
        top.m_axi_arready = reads.size() < OUTSTANDING && go(CORE_M_AR);
        top.m_axi_awready = writes.size() < OUTSTANDING && answers.size() < OUTSTANDING && go(CORE_M_AW);
        top.m_axi_wready = !writes.empty() && go(CORE_M_W);
        if (!top.m_axi_rvalid || r_taken) {
            top.m_axi_rvalid = !reads.empty() && go(CORE_M_R);
            if (top.m_axi_rvalid) {
                const Burst& from = reads.front();
                const uint64_t address = from.address + uint64_t(from.done) * BUS;
                if (from.error) std::memset(&top.m_axi_rdata, 0, BUS);
                else put(top.m_axi_rdata, &memory[address], BUS);
                top.m_axi_rresp = from.error ? 2 : 0;
                top.m_axi_rlast = from.done + 1 == from.beats;
            }
        }
        if (!top.m_axi_bvalid || b_taken) {
            top.m_axi_bvalid = !answers.empty() && go(CORE_M_B);
            if (top.m_axi_bvalid) top.m_axi_bresp = answers.front() ? 2 : 0;
        }
    }
#endif

    void flush() {
        for (auto& each : source) each = Source{};
#if CORE_HAS_STREAMS
        top.s_axis_a_tvalid = top.s_axis_w_tvalid = 0;
#if CORE_HAS_C
        top.s_axis_c_tvalid = 0;
#endif
        top.eval();
#endif
        results.clear();
        keeps.clear();
        lasts.clear();
        taken = 0;
    }
};

Core& of(void* core) { return *static_cast<Core*>(core); }

}  // namespace

API void* core_new(uint64_t seed) { return new Core(seed); }
API void core_free(void* core) { delete &of(core); }
API uint32_t core_bus_bytes(void) { return BUS; }
API uint64_t core_cycles(void* core) { return of(core).cycles; }
API int core_irq(void* core) { return of(core).top.irq; }
API uint64_t core_violations(void* core) { return of(core).violations; }
API const char* core_first_violation(void* core) { return of(core).first.c_str(); }

API void core_stall(void* core, int channel, uint32_t probability) { of(core).stall[channel] = probability; }

API void core_reset(void* core, uint32_t cycles) {
    Core& self = of(core);
    self.flush();
    self.idle();
    self.top.aresetn = 0;
    self.top.eval();
    for (uint32_t n = 0; n < cycles; ++n) self.cycle();
    self.top.aresetn = 1;
    self.top.eval();
}

API void core_step(void* core, uint64_t cycles) {
    for (; cycles; --cycles) of(core).cycle();
}

API int core_write32(void* core, uint32_t address, uint32_t value, uint32_t strobes, uint32_t patience) {
    Core& self = of(core);
    self.top.s_axil_awaddr = address;
    self.top.s_axil_wdata = value;
    self.top.s_axil_wstrb = strobes;
    self.aw_wanted = self.w_wanted = self.b_wanted = true;
    self.response = CORE_DEAD;
    while (self.b_wanted && patience--) self.cycle();
    return self.response;
}

API int core_read32(void* core, uint32_t address, uint32_t* value, uint32_t patience) {
    Core& self = of(core);
    self.top.s_axil_araddr = address;
    self.ar_wanted = self.r_wanted = true;
    self.response = CORE_DEAD;
    while (self.r_wanted && patience--) self.cycle();
    *value = self.r_data;
    return self.response;
}

API void core_send(void* core, int stream, const uint8_t* beats, uint64_t count) {
    if (!count) return;
    Source& into = of(core).source[stream];
    into.bytes.insert(into.bytes.end(), beats, beats + count * BUS);
    into.ends.push_back(into.bytes.size());
}

API uint64_t core_waiting(void* core, int stream) {
    const Source& from = of(core).source[stream];
    return (from.bytes.size() - from.at) / BUS;
}

API uint64_t core_arrived(void* core) { return of(core).keeps.size() - of(core).taken; }

API uint64_t core_take(void* core, uint8_t* beats, uint64_t* keep, uint8_t* last, uint64_t most) {
    Core& self = of(core);
    uint64_t count = self.keeps.size() - self.taken;
    if (count > most) count = most;
    std::memcpy(beats, self.results.data() + self.taken * BUS, count * BUS);
    if (keep) std::memcpy(keep, self.keeps.data() + self.taken, count * sizeof(uint64_t));
    if (last) std::memcpy(last, self.lasts.data() + self.taken, count);
    self.taken += count;
    if (self.taken == self.keeps.size()) {
        self.results.clear();
        self.keeps.clear();
        self.lasts.clear();
        self.taken = 0;
    }
    return count;
}

API void core_flush(void* core) { of(core).flush(); }

API int core_run(void* core, uint64_t results, int irq, uint64_t patience) {
    Core& self = of(core);
    uint64_t moved = self.moved, left = patience;
    for (;;) {
        if (results && self.keeps.size() - self.taken >= results) return CORE_RESULTS;
        if (irq && self.top.irq) return CORE_IRQ;
        if (self.moved != moved) {
            moved = self.moved;
            left = patience;
        } else if (!left--) {
            return CORE_TIMEOUT;
        }
        self.cycle();
    }
}

API void core_memory(void* core, uint64_t size) { of(core).memory.assign(size, 0); }

API int core_memory_write(void* core, uint64_t address, const uint8_t* data, uint64_t count) {
    Core& self = of(core);
    if (address > self.memory.size() || count > self.memory.size() - address) return -1;
    std::memcpy(self.memory.data() + address, data, count);
    return 0;
}

API int core_memory_read(void* core, uint64_t address, uint8_t* data, uint64_t count) {
    Core& self = of(core);
    if (address > self.memory.size() || count > self.memory.size() - address) return -1;
    std::memcpy(data, self.memory.data() + address, count);
    return 0;
}
