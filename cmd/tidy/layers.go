package main

import (
	"slices"
	"strconv"
	"strings"
)

// A Kind says which rules hold for the packages of a layer.
type Kind int

const (
	Leaf    Kind = iota + 1 // pure, but may name a few outside packages: keys, addresses, signatures, canonical bytes
	Pure                    // decides: no clock, goroutine, channel, lock, context or state of the package
	Adapter                 // acts: talks to the network, the disk, the engine; never to another adapter
	Shell                   // where the adapters meet
	Top                     // puts things together, by hand
)

func (k Kind) pure() bool { return k == Leaf || k == Pure }

func (k Kind) String() string {
	return [...]string{"", "leaf", "pure package", "adapter", "shell", "program"}[k]
}

// A Layer is one row of the table: a package with the packages below it in the tree, unless a longer row names them.
// Packages of one row may import each other.
type Layer struct {
	Dir   string
	Kind  Kind
	Alone bool     // the row stands for Dir only, not for what is below it
	May   []string // rows whose packages may be imported
	Names []string // a leaf's and its sub-packages' outside packages, exactly
}

const ethereum = "github.com/ethereum/go-ethereum/"

var (
	leaves  = []string{"p2p/identity", "p2p/wire"}
	members = append(slices.Clone(leaves), "p2p/member")
	domains = append(slices.Clone(members), "ledger", "ledger/audit", "reliability", "market", "exec/plan", "node/core/table")
	below   = append(slices.Clone(domains), "node/core", "node/crash") // what stands below the adapters
	parts   = append(slices.Clone(below), "p2p", "exec", "node/keys", "node/store", "node/config", "node/api", "node/web")
)

// The diagram, from the leaves up. An adapter may import everything pure, and node/crash, whose calls vanish without a
// build tag; node/api serves node/web, the one pair of adapters where one stands on the other.
var layers = []Layer{
	{Dir: "p2p/identity", Kind: Leaf, Names: []string{ethereum + "common", ethereum + "crypto", "crypto/ecdsa"}},
	{Dir: "p2p/wire", Kind: Leaf, May: leaves[:1], Names: []string{ethereum + "common", ethereum + "crypto", "github.com/fxamacker/cbor/v2"}},

	{Dir: "p2p/member", Kind: Pure, May: leaves},
	{Dir: "ledger", Kind: Pure, May: members},
	// tlog computes hashes over what it is given, and asks the HashReader that it is given; it has no state, clock, lock or
	// goroutine, and touches neither files nor network. Beside it, the signed text of a checkpoint wants base64.
	{Dir: "ledger/audit", Kind: Pure, May: append(slices.Clone(members), "ledger"), Names: []string{"golang.org/x/mod/sumdb/tlog", "encoding/base64"}},
	{Dir: "reliability", Kind: Pure, May: members},
	{Dir: "market", Kind: Pure, May: append(slices.Clone(members), "ledger", "reliability")},
	{Dir: "exec/plan", Kind: Pure, May: append(slices.Clone(members), "ledger", "market")},
	{Dir: "node/core/table", Kind: Pure, May: leaves},
	{Dir: "node/core", Kind: Pure, May: domains},

	{Dir: "node/crash", Kind: Adapter},
	{Dir: "p2p", Kind: Adapter, May: below},
	{Dir: "exec", Kind: Adapter, May: below},
	{Dir: "node/keys", Kind: Adapter, May: below},
	{Dir: "node/store", Kind: Adapter, May: below},
	{Dir: "node/config", Kind: Adapter, May: below},
	{Dir: "node/web", Kind: Adapter, May: below},
	{Dir: "node/api", Kind: Adapter, May: append(slices.Clone(below), "node/web")},

	{Dir: "node", Kind: Shell, Alone: true, May: parts},

	{Dir: "simnet", Kind: Top, May: append(slices.Clone(parts), "node")},
	{Dir: "cmd/souk", Kind: Top, May: append(slices.Clone(parts), "node", "simnet")},
	{Dir: "cmd/tidy", Kind: Top},
}

// layerOf finds the longest row that covers the folder.
func layerOf(dir string) (Layer, bool) {
	var found Layer
	for _, l := range layers {
		if l.covers(dir) && len(l.Dir) > len(found.Dir) {
			found = l
		}
	}
	return found, found.Dir != ""
}

func (l Layer) covers(dir string) bool {
	return dir == l.Dir || !l.Alone && strings.HasPrefix(dir, l.Dir+"/")
}

// plain is the standard library of pure packages: what computes, and touches neither machine nor time. From "time" they
// take the types; its clocks are refused by name.
var plain = []string{"bytes", "cmp", "crypto/sha256", "encoding/binary", "encoding/hex", "encoding/json", "errors", "fmt",
	"iter", "maps", "math", "math/big", "math/bits", "path", "slices", "sort", "strconv", "strings", "time"}

func isPlain(path string) bool {
	return slices.Contains(plain, path) || path == "hash" || strings.HasPrefix(path, "hash/") ||
		path == "unicode" || strings.HasPrefix(path, "unicode/")
}

func checkImports(t *Tree, p Package, l Layer) []Problem {
	var ps []Problem
	for _, f := range p.Files {
		if f.Test() {
			continue
		}
		for _, spec := range f.Syntax.Imports {
			path, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				continue // the parser has accepted it as a string
			}
			if why := refusal(t.Module, path, l); why != "" {
				ps = append(ps, t.problem(spec, "%s", why))
			}
		}
	}
	return ps
}

// refusal says why a package of the layer may not import the path; it is empty where it may.
func refusal(module, path string, l Layer) string {
	dir, inside := strings.CutPrefix(path, module+"/")
	if !inside {
		if !l.Kind.pure() || isPlain(path) || slices.Contains(l.Names, path) {
			return ""
		}
		return "a " + l.Kind.String() + " may not import " + path
	}
	target, ok := layerOf(dir)
	switch {
	case !ok:
		return "imports " + path + ", which no layer names"
	case target.Dir == l.Dir, slices.Contains(l.May, target.Dir):
		return ""
	case l.Kind == Adapter && target.Kind == Adapter:
		return "imports " + path + ": adapters never import one another, they meet in node"
	}
	return "imports " + path + ": " + l.Dir + " stands below or beside it"
}
