package bench

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/dmsc-mesh/dmsc/internal/lab"
)

// cpuTime is what a process has used of the processors so far; 0 for one that
// has ended.
func cpuTime(p *lab.Process) time.Duration {
	if p == nil || !p.Running() {
		return 0
	}
	// The CPU clock of another process, clock_getcpuclockid(3).
	clock := int32(^p.PID())<<3 | unix.CLOCK_PROCESS_CPUTIME_ID
	var ts unix.Timespec
	if unix.ClockGettime(clock, &ts) != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}
