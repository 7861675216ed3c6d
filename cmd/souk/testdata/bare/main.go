// Command bare is the least that a node of this kind can be: a libp2p host on TCP and QUIC, GossipSub with three topics,
// and Badger with the same options that a node uses. It does nothing. BenchmarkIdle measures a node against it.
//
//	bare DIR [PEER]
//
// It prints its address, connects to PEER if one is given, and ends when its standard input does.
package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
	"github.com/libp2p/go-libp2p"
	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
)

func main() {
	if err := run(context.Background(), os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bare:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	db, err := badger.Open(lean(args[0]))
	if err != nil {
		return err
	}
	defer db.Close()
	h, err := libp2p.New(
		libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"),
		libp2p.Transport(tcp.NewTCPTransport), libp2p.Transport(libp2pquic.NewTransport),
		libp2p.DisableRelay(), libp2p.DisableMetrics(),
	)
	if err != nil {
		return err
	}
	defer h.Close()
	ps, err := pubsub.NewGossipSub(ctx, h)
	if err != nil {
		return err
	}
	for _, name := range []string{"offers", "beats", "members"} {
		t, err := ps.Join(name)
		if err != nil {
			return err
		}
		if _, err := t.Subscribe(); err != nil {
			return err
		}
	}
	if len(args) > 1 {
		p, err := peer.AddrInfoFromString(args[1])
		if err != nil {
			return err
		}
		if err := h.Connect(ctx, *p); err != nil {
			return err
		}
	}
	fmt.Printf("%s/p2p/%s\n", h.Addrs()[0], h.ID())
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// lean is what node/store opens Badger with.
func lean(dir string) badger.Options {
	return badger.DefaultOptions(dir).WithSyncWrites(true).WithMemTableSize(8 << 20).WithNumMemtables(2).
		WithCompression(options.None).WithBlockCacheSize(0).WithNumCompactors(2).WithNumVersionsToKeep(1).
		WithValueThreshold(1 << 20).WithValueLogFileSize(16 << 20).WithDetectConflicts(false).WithMetricsEnabled(false).
		WithLogger(nil)
}
