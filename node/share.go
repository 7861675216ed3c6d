package node

const (
	leastReserve = 1 << 30   // bytes of memory that pods leave to the system and the node; a tenth where that is more
	leastMemory  = 256 << 20 // bytes: with less, hardly anything that people rent runs
	leastCPUs    = 1000      // milli-CPUs, where the machine has them
)

// A capacity is what of this machine pods can share.
type capacity struct {
	memory int64 // bytes; 0: not known
	cpus   int64 // milli-CPUs
	gpus   int   // of the whole machine, whether on sale or not
}

// share is a pod's part: as large as its part of the GPUs, and half of one GPU's without any. So all pods of a full machine
// fit into it together, and what remains stays the system's.
func (c capacity) share(gpus int) (memory, cpus int64) {
	part, of := int64(2*gpus), int64(2*max(c.gpus, gpus, 1))
	if gpus == 0 {
		part = 1
	}
	if c.memory > 0 {
		memory = max((c.memory-max(leastReserve, c.memory/10))/of*part, leastMemory)
	}
	return memory, max(c.cpus*part/of, min(leastCPUs, c.cpus))
}
