package market

import (
	"cmp"
	"slices"
	"strings"
)

// models are the GPUs that the market has names for, in the order of their names. Hosts may offer others.
var models = []string{
	"A10", "A100_PCIE_40GB", "A100_PCIE_80GB", "A100_SXM_40GB", "A100_SXM_80GB", "A30", "A40", "B200", "GH200", "H100_NVL", "H100_PCIE",
	"H100_SXM", "H200", "L4", "L40", "L40S", "RTX_3060", "RTX_3070", "RTX_3080", "RTX_3090", "RTX_3090_TI", "RTX_4000_ADA",
	"RTX_4070_TI", "RTX_4080", "RTX_4090", "RTX_5000_ADA", "RTX_5070_TI", "RTX_5080", "RTX_5090", "RTX_6000_ADA", "RTX_A4000",
	"RTX_A5000", "RTX_A6000", "RTX_PRO_6000", "RTX_PRO_6000_SERVER", "T4", "V100_SXM", "V100_SXM_16GB",
}

// Models are the GPUs that the market has names for.
func Models() []string { return slices.Clone(models) }

// nearest are up to most of names that are spelled nearly as want: those that contain it, then those a few edits away.
func nearest(want string, names []string, most int) []string {
	type near struct {
		name  string
		apart bool // does not contain it
		edits int
	}
	want = plain(clip(want))
	var list []near
	for _, n := range names {
		d := edits(plain(n), want)
		has := len(want) > 1 && strings.Contains(plain(n), want)
		if has || d <= min(3, 1+len(n)/4) {
			list = append(list, near{n, !has, d})
		}
	}
	slices.SortFunc(list, func(a, b near) int {
		return cmp.Or(cmp.Compare(truth(a.apart), truth(b.apart)), cmp.Compare(a.edits, b.edits), cmp.Compare(a.name, b.name))
	})
	var out []string
	for _, n := range list {
		if len(out) < most && !slices.Contains(out, n.name) {
			out = append(out, n.name)
		}
	}
	return out
}

// SameModel reports whether two names are of one model: without regard to case, and with spaces for underscores.
func SameModel(a, b string) bool { return plainly(a, plain(b)) }
