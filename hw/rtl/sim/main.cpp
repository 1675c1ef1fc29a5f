// The clock of system.sv, and waves: +waves=FILE in a build with Verilator's --trace-vcd or
// --trace-fst; the lines that ran: +coverage=FILE in a build with --coverage-line. Exits with 0 when
// the program has ended, with 3 after an assertion has failed.

#include <memory>
#include <string>

#include "Vtop.h"
#include "verilated.h"
#if VM_COVERAGE
#include "verilated_cov.h"
#endif
#if VM_TRACE_FST
#include "verilated_fst_c.h"
using Waves = VerilatedFstC;
#elif VM_TRACE
#include "verilated_vcd_c.h"
using Waves = VerilatedVcdC;
#endif

int main(int argc, char** argv) {
    const auto context = std::make_unique<VerilatedContext>();
    context->commandArgs(argc, argv);
    context->fatalOnError(false);  // stop, and close the files
    const auto top = std::make_unique<Vtop>(context.get());
#if VM_TRACE
    std::unique_ptr<Waves> waves;
    const std::string match = context->commandArgsPlusMatch("waves=");
    if (!match.empty()) {
        context->traceEverOn(true);
        waves = std::make_unique<Waves>();
        top->trace(waves.get(), 99);
        waves->open(match.substr(7).c_str());
    }
#endif
    constexpr int kResetCycles = 4;
    top->clk_i = 0;
    top->rst_ni = 0;
    top->eval();
    for (std::uint64_t cycle = 0; !context->gotFinish() && !top->done_o; ++cycle) {
        for (const int level : {1, 0}) {
            context->timeInc(1);
            top->clk_i = level;
            if (level == 0 && cycle == kResetCycles) top->rst_ni = 1;
            top->eval();
#if VM_TRACE
            if (waves) waves->dump(context->time());
#endif
        }
    }
#if VM_TRACE
    if (waves) waves->close();
#endif
    const bool failed = context->gotError();
    top->final();
#if VM_COVERAGE
    const std::string coverage = context->commandArgsPlusMatch("coverage=");
    if (!coverage.empty()) context->coveragep()->write(coverage.substr(10).c_str());
#endif
    return failed ? 3 : 0;
}
