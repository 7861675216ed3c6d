package node

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"sync"
	"time"

	"souk/exec/image"
	"souk/ledger"
	"souk/market"
	"souk/node/api"
	"souk/node/core/consumer"
	"souk/node/core/host"
	"souk/node/core/observer"
	"souk/node/core/step"
	"souk/node/core/table"
	"souk/node/crash"
	"souk/p2p"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
	"souk/reliability"
)

// commandWait is the most that a command of the user may take in the core; those that wait for peers answer earlier.
const commandWait = 2 * time.Minute

// backend is the node as its API sees it.
type backend struct{ *Node }

// Backend is what the API is served from.
func (n *Node) Backend() api.Backend { return backend{n} }

// Do has the core carry out a command, and waits for its answer.
func (n *Node) Do(ctx context.Context, cmd any) (any, error) {
	id, outcome, done := n.await()
	defer done()
	crash.Here("command.begin")
	if !n.offer(step.Local{ID: id, Cmd: cmd}) {
		return nil, step.Fail(step.ProblemTimeout, "try again in a moment", "the node has too much to do")
	}
	ctx, cancel := context.WithTimeout(ctx, commandWait)
	defer cancel()
	select {
	case o := <-outcome:
		crash.Here("command.end")
		return o.answer.Value, o.answer.Err
	case <-ctx.Done():
		return nil, step.Fail(step.ProblemTimeout, "the node goes on with it; 'souk events' tells", "no answer in time")
	}
}

// Info is the node in figures.
func (b backend) Info(ctx context.Context) api.Info {
	n := b.Node
	id, err := p2p.PeerID(n.key.Public())
	if err != nil {
		n.log.Error("own peer id", "err", err)
	}
	name, engine := n.pods.describe(ctx)
	info := api.Info{
		Version: n.opts.Version, Address: n.self, PeerID: id.String(), Addrs: n.addrs(), PID: os.Getpid(), Started: n.started,
		Home: n.opts.Config.Home, Runtime: name, Engine: engine, Height: n.height.Load(),
	}
	info.LastEvent, _ = n.events.news()
	info.Stalled = n.committer.Stalled()
	for _, p := range n.net.Peers() {
		dir := "out"
		if p.Inbound {
			dir = "in"
		}
		info.Peers = append(info.Peers, api.PeerInfo{
			Address: p.Address, PeerID: p.PeerID, Direction: dir, Transport: p.Transport, Remote: p.Remote, Since: p.Since, Latency: p.Latency,
		})
	}
	return info
}

// Events yields what the core told the user.
func (b backend) Events(ctx context.Context, after uint64, follow bool) iter.Seq2[step.Notice, error] {
	return b.events.since(ctx, after, follow)
}

// Shutdown ends the node.
func (b backend) Shutdown() { b.end(errShutdown) }

// ResolveImage asks a registry what a reference stands for now.
func (b backend) ResolveImage(ctx context.Context, ref string) (string, int64, error) {
	r, err := image.Resolve(ctx, ref, image.Options{})
	if err == nil {
		return r.Ref, r.Size, nil
	}
	hint := "check the reference; the registry must be reachable from here and from the host"
	switch {
	case errors.Is(err, image.ErrNotFound):
		hint = "check the name and the tag"
	case errors.Is(err, image.ErrDenied):
		hint = "the image must be public"
	case errors.Is(err, image.ErrBadReference):
		return "", 0, step.Fail(step.ProblemUsage, "", "%v", err)
	}
	return "", 0, step.Fail(step.ProblemImage, hint, "%v", err)
}

// logHead frames one piece of output on a log stream: which of the two it is, and how long.
const (
	logHead  = 5
	logPiece = 32 << 10
)

// logPulse is how often a silent pod's stream shows that it lives: streams on which nothing moves are ended.
const logPulse = time.Minute

// pieceStream is the stream that both outputs of a pod are written to.
type pieceStream struct {
	mu sync.Mutex
	to io.Writer
}

func (p *pieceStream) write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.to.Write(b)
}

// pulse writes empty pieces until ctx ends.
func (p *pieceStream) pulse(ctx context.Context) {
	t := time.NewTicker(logPulse)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			if _, err := p.write(make([]byte, logHead)); err != nil {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

// pieces writes one of the two outputs as frames on a stream.
type pieces struct {
	to    *pieceStream
	which byte
}

// Write implements io.Writer.
func (p pieces) Write(b []byte) (int, error) {
	done := 0
	for len(b) > 0 {
		part := b[:min(len(b), logPiece)]
		frame := make([]byte, logHead, logHead+len(part))
		frame[0] = p.which
		binary.BigEndian.PutUint32(frame[1:], uint32(len(part)))
		if _, err := p.to.write(append(frame, part...)); err != nil {
			return done, err
		}
		done += len(part)
		b = b[len(part):]
	}
	return done, nil
}

// join copies frames to the two outputs.
func joinPieces(from io.Reader, stdout, stderr io.Writer) error {
	var head [logHead]byte
	buf := make([]byte, logPiece)
	for {
		if _, err := io.ReadFull(from, head[:]); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		n := binary.BigEndian.Uint32(head[1:])
		if n > logPiece {
			return errors.New("node: a piece of a pod's output is too large")
		}
		if _, err := io.ReadFull(from, buf[:n]); err != nil {
			return err
		}
		to := stdout
		if head[0] == 2 {
			to = stderr
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return err
		}
	}
}

// stream serves a long stream: a pod's output, to the consumer of its lease.
func (n *Node) stream(ctx context.Context, from identity.PublicKey, proto p2p.Protocol, f wire.Frame, s *p2p.Stream) error {
	r, no := n.askCore(ctx, from, proto, f)
	if no != nil {
		return toNetwork(no)
	}
	body, err := step.Body[host.LogsBody](f.Body)
	if err != nil {
		return p2p.Refuse(p2p.CodeBadFrame, "logs: which lease?")
	}
	answer, err := step.Body[host.LogsAnswer](r.Frame.Body)
	if err != nil {
		return err
	}
	if err := s.Accept(r.Frame); err != nil {
		return err
	}
	to := &pieceStream{to: s}
	alive, stop := context.WithCancel(ctx)
	var pulse sync.WaitGroup
	pulse.Go(func() { to.pulse(alive) })
	defer pulse.Wait()
	defer stop()
	return n.pods.logs(ctx, body.Lease, answer.Start, body.Follow, int(body.Tail), pieces{to, 1}, pieces{to, 2})
}

// Logs copies the output of one of this node's pods from its host.
func (b backend) Logs(ctx context.Context, lease wire.ID, follow bool, tail int, stdout, stderr io.Writer) error {
	v, err := b.Do(ctx, consumer.Show{Lease: lease})
	if err != nil {
		return err
	}
	view, ok := v.(consumer.View)
	if !ok {
		return fmt.Errorf("node: the core answered with a %T", v)
	}
	f := wire.Frame{Op: uint8(step.OpOK), Body: wire.Marshal(host.LogsBody{Lease: lease, Follow: follow, Tail: uint32(max(tail, 0))})}
	s, err := b.net.OpenStream(ctx, view.Host, p2p.Protocol(step.ProtoLogs), f)
	if err != nil {
		return step.FromFailure(failure(err), "the host")
	}
	stop := context.AfterFunc(ctx, func() { _ = s.Reset() })
	defer stop()
	defer s.Close()
	err = joinPieces(s, stdout, stderr)
	if follow && err == nil {
		_, err = b.Do(ctx, consumer.Glance{Lease: lease}) // the pod has ended, or is about to
	}
	return err
}

// Signed gives a draft of this node's own its signature.
func (b backend) Signed(_ context.Context, o wire.Object) (wire.Object, error) {
	err := b.signOne(b.opener.Load().Market, &o)
	return o, err
}

// all is every object of a span of a log; after says behind which key the next part begins.
func (b backend) all(ctx context.Context, from, to []byte, after func(wire.Object) ([]byte, error)) ([]wire.Object, error) {
	const part = 512
	var out []wire.Object
	for {
		more, err := b.Objects(ctx, from, to, part, false)
		if err != nil {
			return nil, err
		}
		out = append(out, more...)
		if len(more) < part {
			return out, nil
		}
		if from, err = after(more[part-1]); err != nil {
			return nil, err
		}
	}
}

// testify adds what minutes rest on that the voucher does not cover.
func (b backend) testify(ctx context.Context, lease wire.ID, bill *market.Bill, d consumer.Documents) error {
	first := member.Minute(0)
	if !d.Voucher.IsZero() {
		v, err := wire.Decode[ledger.Voucher](d.Voucher)
		if err != nil {
			return err
		}
		first = v.Minute + 1
	}
	var err error
	bill.Witnessed, err = b.all(ctx, table.Key(table.LeaseReceipt, lease[:], table.Uint64(uint64(first))), table.After(table.Key(table.LeaseReceipt, lease[:])), func(o wire.Object) ([]byte, error) {
		r, err := wire.Decode[reliability.Receipt](o)
		return append(table.Key(table.LeaseReceipt, lease[:], table.Uint64(uint64(r.Minute)), r.Witness[:]), 0), err
	})
	if len(bill.Witnessed) > 0 {
		bill.Mandate, bill.Panel = d.Mandate, d.Panel
	}
	return err
}

// Bill joins what proves a lease into one file.
func (b backend) Bill(ctx context.Context, lease wire.ID) ([]byte, error) {
	v, err := b.Do(ctx, consumer.Papers{Lease: lease})
	if err != nil {
		return nil, err
	}
	d, ok := v.(consumer.Documents)
	if !ok {
		return nil, fmt.Errorf("node: the core answered with a %T", v)
	}
	if d.Cert.IsZero() {
		return nil, step.Fail(step.ProblemConflict, "", "there is no lease yet: the order is %s", d.View.State)
	}
	bill := market.Bill{Terms: d.Terms, Cert: d.Cert, Voucher: d.Voucher, Reservations: []wire.Object{d.Reservation}}
	if !d.Receipt.IsZero() {
		bill.Receipts = []wire.Object{d.Receipt}
	}
	terms, err := wire.Decode[market.Terms](d.Terms)
	if err != nil {
		return nil, err
	}
	w, err := b.Do(ctx, observer.Vouch{Host: terms.Host, Consumer: terms.Consumer, Policy: terms.Policy})
	if err != nil {
		return nil, err
	}
	p, ok := w.(observer.Vouched)
	if !ok {
		return nil, fmt.Errorf("node: the core answered with a %T", w)
	}
	bill.Charter, bill.Policy, bill.Host, bill.Consumer = p.Charter, p.Policy, p.Host, p.Consumer
	bill.Usage, err = b.all(ctx, table.Key(table.ConsumerUsage, lease[:]), table.After(table.Key(table.ConsumerUsage, lease[:])), func(o wire.Object) ([]byte, error) {
		u, err := wire.Decode[ledger.Usage](o)
		return table.Key(table.ConsumerUsage, lease[:], table.Uint64(u.Seq+1)), err
	})
	if err != nil {
		return nil, err
	}
	if err := b.testify(ctx, lease, &bill, d); err != nil {
		return nil, err
	}
	for _, o := range []*wire.Object{&bill.Charter, &bill.Policy, &bill.Host, &bill.Consumer, &bill.Terms, &bill.Cert, &bill.Voucher, &bill.Mandate} {
		if !o.IsZero() {
			if err := b.signOne(b.opener.Load().Market, o); err != nil {
				return nil, err
			}
		}
	}
	return bill.Encode(), nil
}
