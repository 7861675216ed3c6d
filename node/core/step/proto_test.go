package step

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"flag"
	"maps"
	"os"
	"slices"
	"testing"

	"souk/ledger/audit"
	"souk/p2p/identity"
	"souk/p2p/wire"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// body is one kind of unsigned parameters: a value with every field set, and its decoder.
type body struct {
	sample any
	decode func([]byte) (any, error)
}

func bodyOf[T any](sample T) body {
	return body{sample, func(b []byte) (any, error) { return Body[T](b) }}
}

var bodies = map[string]body{
	"hello": bodyOf(HelloBody{
		Market: identity.Hash{1}, Policy: 2, Now: 3, Version: "v", Addrs: []string{"/ip4/127.0.0.1/tcp/1"},
	}),
	"join":           bodyOf(JoinBody{Secret: wire.ID{1}, Market: identity.Hash{2}}),
	"join-answer":    bodyOf(JoinAnswer{State: JoinApproved, Reason: "r"}),
	"renew":          bodyOf(RenewBody{Serial: 7}),
	"sync":           bodyOf(SyncBody{Have: []uint64{1, 1 << 63}}),
	"sync-answer":    bodyOf(SyncAnswer{More: true, Now: 3}),
	"lease":          bodyOf(LeaseBody{Lease: wire.ID{9}}),
	"accept":         bodyOf(AcceptBody{Quote: identity.Hash{9}}),
	"alive":          bodyOf(AliveBody{UsageSeq: 5}),
	"alive-answer":   bodyOf(AliveAnswer{Command: 1, Pulled: 2, PullSize: 3, Detail: "d"}),
	"usage":          bodyOf(UsageBody{Lease: wire.ID{9}, From: 4}),
	"command-answer": bodyOf(CommandAnswer{Seq: 1, LogSeq: 2}),
	"balance": bodyOf(BalanceAnswer{
		Account: identity.Address{1}, Deposited: 2, Available: 3, Reserved: 4, Payable: 5, Settled: 6, PaidOut: 7, Burn: 8, Entries: 9, Fees: 10,
	}),
	"consistency":  bodyOf(ConsistencyBody{Old: 1, Size: 2}),
	"entries":      bodyOf(EntriesBody{After: 1}),
	"prove":        bodyOf(ProveBody{Size: 9, Seqs: []uint64{1, 2}}),
	"prove-answer": bodyOf(ProveAnswer{Proofs: [][]identity.Hash{{{1}, {2}}, {}}}),
	"owed":         bodyOf(OwedBody{Number: 3}),
	"owed-answer": bodyOf(OwedAnswer{
		Leaf: audit.Leaf{Account: identity.Address{1}, Sums: audit.Sums{Deposited: 2, Available: 3}, Entries: 4, Head: identity.Hash{5}}, Place: 6,
		Path: []audit.Node{{Hash: identity.Hash{7}, Sums: audit.Sums{Fees: 8}}},
	}),
}

func names() []string { return slices.Sorted(maps.Keys(bodies)) }

// What stands on the wire does not change under a protocol's version.
func TestBodiesKeepTheirBytes(t *testing.T) {
	const file = "testdata/bodies.json"
	got := map[string]string{}
	for name, b := range bodies {
		got[name] = hex.EncodeToString(wire.Marshal(b.sample))
	}
	if *update {
		text, err := json.MarshalIndent(got, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, append(text, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var want map[string]string
	if err := json.Unmarshal(text, &want); err != nil {
		t.Fatal(err)
	}
	for _, name := range names() {
		if got[name] != want[name] {
			t.Errorf("%s: got %s, want %s", name, got[name], want[name])
		}
	}
	if len(want) != len(got) {
		t.Errorf("%d bodies in %s, %d here", len(want), file, len(got))
	}
}

// A body has one spelling, and no input makes its decoder panic.
func FuzzBody(f *testing.F) {
	for i, name := range names() {
		f.Add(uint8(i), wire.Marshal(bodies[name].sample))
	}
	f.Fuzz(func(t *testing.T, which uint8, b []byte) {
		name := names()[int(which)%len(bodies)]
		v, err := bodies[name].decode(b)
		if err == nil && !bytes.Equal(wire.Marshal(v), b) {
			t.Errorf("%s: %x decodes but encodes as %x", name, b, wire.Marshal(v))
		}
	})
}
