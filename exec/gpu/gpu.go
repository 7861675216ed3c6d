// Package gpu says which GPUs this machine has.
//
// An Inventory lists Devices. NVML asks NVIDIA's driver, and compares the answer with what the kernel says; it needs Linux
// and a build with cgo, and elsewhere says so. Simulated makes up devices for tests and demonstrations: they have the
// memory of the real model and UUIDs that stay the same for one node, so that leases, adoption after a restart and the rule
// that no GPU is sold twice work as with real ones. Every simulated Device says that it is.
//
// A Device has two names: Model is the driver's (NVIDIA H100 80GB HBM3), Name is the market's (H100_SXM), in which offers
// and queries are written.
package gpu

import (
	"context"
	"errors"
	"strings"
)

// ErrUnavailable says that this machine, or this build, has no way to look for GPUs.
var ErrUnavailable = errors.New("gpu: unavailable")

// A Device is one GPU.
type Device struct {
	UUID      string // GPU-xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx
	Model     string // the driver's name for it
	Name      string // the market's: H100_SXM, RTX_4090
	MemoryMiB int64
	Driver    string // version, empty if simulated
	CUDA      string // highest version that the driver supports, as 12.4
	PCI       string // address, as 0000:3b:00.0
	Compute   uint16 // CUDA compute capability times 100, as 890
	Simulated bool   // there is no device behind it
}

// An Inventory lists the GPUs of a machine, in a stable order. An error means that the list cannot be trusted, and says
// why; no GPUs is no error.
type Inventory interface {
	Devices(ctx context.Context) ([]Device, error)
}

// MarketName turns the driver's name of a GPU into the market's. Names that are not in the table keep their words, without
// the maker's, joined by underscores: NVIDIA GeForce RTX 4090 is RTX_4090.
func MarketName(model string) string {
	for _, k := range models {
		if strings.EqualFold(model, k.model) {
			return k.name
		}
	}
	var words []string
	for _, w := range strings.Fields(model) {
		switch strings.ToUpper(w) {
		case "NVIDIA", "GEFORCE", "QUADRO", "TESLA", "GENERATION":
			continue
		}
		words = append(words, strings.Trim(w, "()"))
	}
	return strings.ReplaceAll(strings.Join(words, "_"), "-", "_")
}

// A model is a GPU that the market knows. Memory is what the driver reports or, for simulated GPUs, the nominal size.
type model struct {
	name, model string
	memoryMiB   int64
	compute     uint16 // https://developer.nvidia.com/cuda-gpus
}

var models = [...]model{
	{"B200", "NVIDIA B200", 183359, 1000},
	{"H200", "NVIDIA H200", 143771, 900},
	{"H100_SXM", "NVIDIA H100 80GB HBM3", 81559, 900},
	{"H100_PCIE", "NVIDIA H100 PCIe", 81559, 900},
	{"H100_NVL", "NVIDIA H100 NVL", 95830, 900},
	{"GH200", "NVIDIA GH200 480GB", 97871, 900},
	{"A100_SXM_80GB", "NVIDIA A100-SXM4-80GB", 81920, 800},
	{"A100_SXM_40GB", "NVIDIA A100-SXM4-40GB", 40960, 800},
	{"A100_PCIE_80GB", "NVIDIA A100 80GB PCIe", 81920, 800},
	{"A100_PCIE_40GB", "NVIDIA A100-PCIE-40GB", 40960, 800},
	{"A40", "NVIDIA A40", 46068, 860},
	{"A30", "NVIDIA A30", 24576, 800},
	{"A10", "NVIDIA A10", 23028, 860},
	{"L40S", "NVIDIA L40S", 46068, 890},
	{"L40", "NVIDIA L40", 46068, 890},
	{"L4", "NVIDIA L4", 23034, 890},
	{"T4", "Tesla T4", 15360, 750},
	{"V100_SXM", "Tesla V100-SXM2-32GB", 32768, 700},
	{"V100_SXM_16GB", "Tesla V100-SXM2-16GB", 16384, 700},
	{"RTX_PRO_6000", "NVIDIA RTX PRO 6000 Blackwell Workstation Edition", 97887, 1200},
	{"RTX_PRO_6000_SERVER", "NVIDIA RTX PRO 6000 Blackwell Server Edition", 97887, 1200},
	{"RTX_6000_ADA", "NVIDIA RTX 6000 Ada Generation", 49140, 890},
	{"RTX_5000_ADA", "NVIDIA RTX 5000 Ada Generation", 32760, 890},
	{"RTX_4000_ADA", "NVIDIA RTX 4000 Ada Generation", 20475, 890},
	{"RTX_A6000", "NVIDIA RTX A6000", 49140, 860},
	{"RTX_A5000", "NVIDIA RTX A5000", 24564, 860},
	{"RTX_A4000", "NVIDIA RTX A4000", 16376, 860},
	{"RTX_5090", "NVIDIA GeForce RTX 5090", 32607, 1200},
	{"RTX_5080", "NVIDIA GeForce RTX 5080", 16303, 1200},
	{"RTX_5070_TI", "NVIDIA GeForce RTX 5070 Ti", 16303, 1200},
	{"RTX_4090", "NVIDIA GeForce RTX 4090", 24564, 890},
	{"RTX_4080", "NVIDIA GeForce RTX 4080", 16376, 890},
	{"RTX_4070_TI", "NVIDIA GeForce RTX 4070 Ti", 12282, 890},
	{"RTX_3090", "NVIDIA GeForce RTX 3090", 24576, 860},
	{"RTX_3090_TI", "NVIDIA GeForce RTX 3090 Ti", 24564, 860},
	{"RTX_3080", "NVIDIA GeForce RTX 3080", 10240, 860},
	{"RTX_3070", "NVIDIA GeForce RTX 3070", 8192, 860},
	{"RTX_3060", "NVIDIA GeForce RTX 3060", 12288, 860},
}

// aliases are the short names that people use.
var aliases = [...]struct{ alias, name string }{
	{"H100", "H100_SXM"}, {"A100", "A100_SXM_80GB"}, {"A100_SXM", "A100_SXM_80GB"}, {"A100_PCIE", "A100_PCIE_80GB"}, {"V100", "V100_SXM"},
}
