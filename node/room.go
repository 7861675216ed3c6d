package node

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"souk/node/config"
	"souk/node/core"
	"souk/node/core/step"
	"souk/node/store"
)

// roomEvery is how often the disk's room is measured.
const roomEvery = time.Second

// storePart is the part of the wanted room that the store keeps for finishing a write. The core has stopped before that.
const storePart = 8

// storeOptions are those of a node's store: it mends what it can, and a home that lost something comes up in quarantine.
func storeOptions(c config.Config, log *slog.Logger) store.Options {
	return store.Options{Log: log, MinFree: c.Room() / storePart, Repair: Bereft}
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// Bereft gives the rows that put a node into quarantine whose store has lost something.
func Bereft(l store.Loss) []store.Row {
	r := core.QuarantineRow(l.String(), 0)
	return []store.Row{{Key: r.Key, Value: r.Value}}
}

// AwaitRoom waits until a home's disk has room enough to open its store: a node that could not write would end at once, and
// be started again by whoever looks after it, again and again.
func AwaitRoom(ctx context.Context, c config.Config, log *slog.Logger) error {
	tick := time.NewTicker(roomEvery)
	defer tick.Stop()
	for told := false; ; told = true {
		err := store.Room(c.Home, c.Room()/storePart)
		if !errors.Is(err, store.ErrDiskFull) {
			return nil // what else is wrong, opening the store tells
		}
		if !told {
			log.Error("the node waits for room on the disk", "err", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// watchRoom tells the core how much room the disk has whenever that changes what it may do.
func (n *Node) watchRoom(ctx context.Context) error {
	tick := time.NewTicker(roomEvery)
	defer tick.Stop()
	level, want := step.RoomAmple, n.opts.Config.Room()
	for {
		free, err := freeSpace(n.opts.Config.Home)
		if err != nil {
			n.log.Warn("asking for free space", "err", err)
		} else if next := level.Next(int64(free), want); next != level {
			level = next
			n.log.Warn("room on the disk", "level", level.String(), "free", free, "wanted", want)
			n.put(ctx, step.Room{Level: level, Free: int64(free), Want: want})
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
