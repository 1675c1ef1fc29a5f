// The C++ side of axi_memory.sv and system.sv: memory, program, trace and results are files.
//
// Plusargs: +memory=FILE (mapped, read and written in place), +program=FILE (instructions of twelve
// little-endian uint32 words; one of zeros ends a kernel), +trace=FILE (records of a uint64 cycle and
// the uint32 pulses of trace_t in it, only for cycles with pulses), +results=FILE (lines of text: of
// each kernel `kernel CYCLES`, then `counter INDEX VALUE`, of all kernels so far). With +serve, program
// and results are pipes: a kernel's results come, and its trace is whole, before its successor is read,
// whose trace takes its place.

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "svdpi.h"
#include "verilated.h"

namespace {

constexpr int kWordBytes = 48;

[[noreturn]] void fail(const std::string& what) {
    std::fflush(stdout);
    std::fprintf(stderr, "simulation: %s\n", what.c_str());
    std::exit(4);
}

std::string plusarg(const char* name) {
    const std::string prefix = std::string(name) + "=";
    const std::string match = Verilated::threadContextp()->commandArgsPlusMatch(prefix.c_str());
    return match.empty() ? "" : match.substr(prefix.size() + 1);
}

std::FILE* open_file(const char* name, const char* mode) {
    const std::string path = plusarg(name);
    if (path.empty()) return nullptr;
    std::FILE* file = std::fopen(path.c_str(), mode);
    if (!file) fail("cannot open " + path);
    std::setvbuf(file, nullptr, _IOFBF, 1 << 20);
    return file;
}

struct Memory {
    std::uint8_t* bytes = nullptr;
    std::int64_t size = -1;

    // Maps the file at the first use: the order of `initial` blocks is not defined.
    void open() {
        if (size >= 0) return;
        size = 0;
        const std::string path = plusarg("memory");
        if (path.empty()) return;
        const int file = ::open(path.c_str(), O_RDWR);
        struct stat status;
        if (file < 0 || ::fstat(file, &status) != 0) fail("cannot open " + path);
        if (status.st_size > 0) {
            void* map = ::mmap(nullptr, static_cast<std::size_t>(status.st_size),
                               PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
            if (map == MAP_FAILED) fail("cannot map " + path);
            bytes = static_cast<std::uint8_t*>(map);
            size = status.st_size;
        }
        ::close(file);
    }

    bool holds(long long address, int count) const {
        return address >= 0 && address + count <= size;
    }
};

Memory memory;
std::FILE* program_file = nullptr;
std::FILE* trace_file = nullptr;
std::FILE* results_file = nullptr;
bool serves = false;
bool begins = true;  // of +serve: the next word is a kernel's first

void write_out(std::FILE* file) {
    if (file && std::fflush(file) != 0) fail("cannot write the trace or the results");
}

}  // namespace

extern "C" {

long long memory_size() {
    memory.open();
    return memory.size;
}

void memory_read(long long address, int size, svBitVecVal* data) {
    data[0] = 0;
    if (memory.holds(address, size)) std::memcpy(data, memory.bytes + address, size);
}

void memory_write(long long address, int size, const svBitVecVal* data, const svBitVecVal* strobes) {
    if (!memory.holds(address, size)) return;
    const auto* bytes = reinterpret_cast<const std::uint8_t*>(data);
    for (int i = 0; i < size; ++i) {
        if (strobes[i / 32] >> (i % 32) & 1) memory.bytes[address + i] = bytes[i];
    }
}

void simulation_open() {
    program_file = open_file("program", "rb");
    trace_file = open_file("trace", "wb");
    results_file = open_file("results", "w");
    serves = !plusarg("serve").empty();
}

void simulation_close() {
    for (std::FILE** file : {&program_file, &trace_file, &results_file}) {
        if (*file && std::fclose(*file) != 0) fail("cannot write the trace or the results");
        *file = nullptr;
    }
}

// 0: the program ends, 1: `word` is the next instruction, 2: the kernel ends.
int program_next(svBitVecVal* word) {
    static const svBitVecVal zeros[kWordBytes / 4] = {};
    if (serves && begins) {
        write_out(trace_file);
        write_out(results_file);
    }
    if (!program_file || std::fread(word, kWordBytes, 1, program_file) != 1) return 0;
    if (serves && begins && trace_file) {
        std::rewind(trace_file);
        if (::ftruncate(::fileno(trace_file), 0) != 0) fail("cannot write the trace");
    }
    begins = std::memcmp(word, zeros, kWordBytes) == 0;
    return begins ? 2 : 1;
}

void trace_events(long long cycle, int pulses) {
    std::uint8_t record[sizeof cycle + sizeof pulses];
    std::memcpy(record, &cycle, sizeof cycle);
    std::memcpy(record + sizeof cycle, &pulses, sizeof pulses);
    if (trace_file && std::fwrite(record, sizeof record, 1, trace_file) != 1) {
        fail("cannot write the trace");
    }
}

void kernel_done(long long cycles) {
    if (results_file) std::fprintf(results_file, "kernel %lld\n", cycles);
}

void counter_read(int index, long long value) {
    if (results_file) std::fprintf(results_file, "counter %d %lld\n", index, value);
}

}  // extern "C"
