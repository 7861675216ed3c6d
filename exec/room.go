package exec

import "fmt"

// Limits on what a pull may bring. The consumer chooses the image, so the host's disk is the consumer's to fill without them.
const (
	maxDownload = 100 << 30 // bytes, compressed; the largest images of common use have a quarter of it
	keepFree    = 10 << 30  // bytes that a pull must leave for the pods, the node and the system
)

// room says whether an image fits on the disk below dir: one of size bytes to be downloaded, as its manifest has it. What
// is free is only compared where it can be found out: dir is empty or not there when the engine is on another machine.
func room(size int64, dir string) error {
	if size > maxDownload {
		return &Fault{Code: CodeDisk, Reason: fmt.Sprintf("the image is a download of %s: this host takes at most %s", gib(size), gib(maxDownload))}
	}
	if dir == "" {
		return nil
	}
	free, err := freeSpace(dir)
	if err != nil {
		return nil
	}
	return fits(size, free)
}

func fits(size, free int64) error {
	if size <= free-keepFree {
		return nil
	}
	return &Fault{Code: CodeDisk, Reason: fmt.Sprintf("the image is a download of %s: the host's disk has %s free, and keeps %s of it",
		gib(size), gib(free), gib(keepFree))}
}

func gib(bytes int64) string { return fmt.Sprintf("%.1f GiB", float64(bytes)/(1<<30)) }
