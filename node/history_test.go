package node

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"souk/ledger"
	"souk/node/core"
	"souk/node/core/observer"
	"souk/node/core/operator"
	"souk/node/core/step"
	"souk/node/core/table"
	"souk/node/store"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// questionsOfEach is how many questions a history has: with many more, some take the checker minutes.
const questionsOfEach = 45

var historiesFlag = flag.Int("histories", 0, "how many histories of the bank are checked; 0: a short form")

// A disk is what the bank's node keeps its rows in: a store.Memory or, now and then, a real home.
type bankDisk interface {
	Commit(batches []store.Batch) error
	Scan(prefix []byte, fn func(key, value []byte) error) error
	Close() error
}

// A counter is an operator's node without its network: the core, a disk, and between them what the shell does, one thing at a
// time, in an order drawn from a seed. Many ask it at once; questions and answers are lost and doubled, and the node dies at
// any moment: before a step is on disk, or after that and before its answer has left.
type counter struct {
	t    *testing.T
	lots *rand.Rand
	now  member.Time
	disk bankDisk
	open func() bankDisk // after a crash

	node    *core.Node
	last    uint64 // number of the last question to the core
	wire    []*call
	asked   map[uint64]*call
	writes  []*step.Out // decided, and not yet on disk
	leaving []*step.Out // on disk, and not yet told
	frames  map[demand]wire.Frame

	tick    int64 // of the history
	history []*call
	crashes int

	early bool // of a sabotage: what is decided is told before it is on disk
}

// A call is one question on its way.
type call struct {
	demand demand
	client int
	begun  int64
	ended  int64 // 0: nobody has heard the answer
	heard  said
	void   bool // it was lost before the bank had it
	local  bool
	deaf   bool // nobody waits for the answer
}

var bankKeys = func() (ks [mostAccounts]*identity.PrivateKey) {
	for i := range ks {
		k, err := identity.ParsePrivateKey(bytes.Repeat([]byte{byte(i + 1)}, 32))
		if err != nil {
			panic(err)
		}
		ks[i] = k
	}
	return ks
}()

const bankNoon = member.Time(1_800_014_400_000)

// beginning is what the bank's disk holds when a history begins: a market with four members, two of which have money.
func beginning(t *testing.T) []store.Batch {
	var kept []store.Batch
	c := &counter{t: t, now: bankNoon, asked: map[uint64]*call{}, disk: store.NewMemory()}
	c.node = core.New(bankKeys[operating].Address())
	run := func(in step.Input) *step.Out {
		c.now += member.Second / 10
		out, _ := c.node.Step(c.now, in)
		kept = append(kept, batchOf(out))
		return out
	}
	do := func(cmd any) any {
		t.Helper()
		out := run(step.Local{ID: 1, Cmd: cmd})
		if len(out.Answers) != 1 || out.Answers[0].Err != nil {
			t.Fatalf("%T: %+v", cmd, out.Answers)
		}
		return out.Answers[0].Value
	}
	op := bankKeys[operating]
	run(bankBoot(0))
	p := member.DefaultPolicy(op.Address(), c.now)
	p.Fee = feePPM
	do(observer.Found{Policy: p, Charter: member.Charter{Salt: wire.ID{7}, Name: "bazaar", Founded: c.now, ChainID: 1,
		Operators: []identity.PublicKey{op.Public()}, Threshold: 1, Testnet: true, Slot: 60}})
	for who := range operating {
		role := member.RoleConsumer
		if who == hosting {
			role = member.RoleHost
		}
		secret := wire.ID{byte(who + 1), 1}
		do(operator.InviteCreate{Secret: secret, Role: role})
		j := member.JoinRequest{Subject: bankKeys[who].Public(), Secret: member.Invite{Secret: secret}.SecretHash(), Role: role, At: c.now}
		if role == member.RoleHost {
			j.Agreement = p.AgreementHash()
			j.Devices = []member.Device{{UUID: "GPU-1", Model: "RTX_4090", MemoryMiB: 24576, Simulated: true}}
			j.Machine = member.Machine{CPU: "EPYC", Cores: 32, Runtime: "docker"}
		}
		r := step.Request{ID: 1, From: bankKeys[who].Public(), Peer: bankKeys[who].Address(), Proto: step.ProtoJoin, Op: step.OpJoin,
			Objects: c.verified(c.signed(who, j)), Body: wire.Marshal(step.JoinBody{Secret: secret, Market: c.node.Market().ID})}
		if out := run(r); len(out.Replies) != 1 || out.Replies[0].Refusal != nil {
			t.Fatalf("joining: %+v", out.Replies)
		}
		if role == member.RoleHost {
			do(operator.Approve{Addr: bankKeys[who].Address().String(), Tier: member.TierCommunity})
		}
	}
	for who, ref := range map[int]string{alice: "first", bob: "second"} {
		do(operator.Deposit{Addr: bankKeys[who].Address().String(), Amount: richness, Ref: ref})
	}
	return kept
}

// richness is more than all leases and gifts of a history come to.
const richness = 1000 * ledger.Credit

func modelBeginning() modelBank {
	b := modelBank{entries: 2}
	for _, who := range []int{alice, bob} {
		b.accounts[who].deposited, b.accounts[who].available = richness, richness
	}
	return b
}

func batchOf(out *step.Out) store.Batch {
	var b store.Batch
	for _, r := range out.Rows {
		b.Rows = append(b.Rows, store.Row{Key: r.Key, Value: r.Value, Delete: r.Delete})
	}
	for _, g := range out.Guards {
		b.Guards = append(b.Guards, store.Guard{Chain: g.Chain, Place: g.Place, Hash: g.Hash})
	}
	return b
}

func bankBoot(n int) step.Boot {
	return step.Boot{ID: wire.ID{1, byte(n)}, Seed: identity.Hash{2, byte(n)}, Key: bankKeys[operating].Public(), Addrs: []string{"/ip4/192.0.2.1/tcp/1"}}
}

func newCounter(t *testing.T, seed uint64, begin []store.Batch, open func() bankDisk) *counter {
	c := &counter{t: t, lots: rand.New(rand.NewPCG(seed, 11)), now: bankNoon + 5*member.Second, open: open, disk: open(),
		asked: map[uint64]*call{}, frames: map[demand]wire.Frame{}}
	if err := c.disk.Commit(begin); err != nil {
		t.Fatal(err)
	}
	c.boot()
	return c
}

// boot loads the node from its disk. In its first step the bank looks after every account once.
func (c *counter) boot() {
	var err error
	c.node, err = core.Load(bankKeys[operating].Address(), func(yield func(k, v []byte) error) error {
		for _, tab := range table.All() {
			if k := tab.Kind(); k == table.State || k == table.Replica {
				if err := c.disk.Scan(table.Key(tab), yield); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		c.t.Fatal(err)
	}
	c.begin(&call{demand: demand{what: askTick}})
	c.step(bankBoot(c.crashes))
}

// begin makes a call part of the history.
func (c *counter) begin(q *call) *call {
	c.tick++
	q.begun = c.tick
	c.history = append(c.history, q)
	return q
}

func (c *counter) step(in step.Input) {
	c.now++
	out, _ := c.node.Step(c.now, in)
	c.writes = append(c.writes, out)
	if c.early {
		c.tell(out)
	}
}

// ask puts a question on its way.
func (c *counter) ask(client int, d demand) *call {
	q := c.begin(&call{demand: d, client: client, local: d.what == askDeposit || d.what == askPaid || d.what == askReturned || d.what == askLook})
	c.wire = append(c.wire, q)
	return q
}

// arrive has the core take one of the questions that are on their way, in whatever order.
func (c *counter) arrive() {
	i := c.lots.IntN(len(c.wire))
	q := c.wire[i]
	c.wire = slices.Delete(c.wire, i, i+1)
	switch lot := c.lots.IntN(100); {
	case q.local: // the API is on the same machine
	case lot < 6:
		q.void = true
		return
	case lot < 14: // it comes once more, some time
		c.wire = append(c.wire, c.begin(&call{demand: q.demand, client: q.client, deaf: true}))
	}
	c.last++
	c.asked[c.last] = q
	if q.local {
		c.step(step.Local{ID: c.last, Cmd: c.command(q.demand)})
		return
	}
	f, from := c.frame(q.demand), bankKeys[c.asker(q.demand)]
	c.step(step.Request{ID: c.last, From: from.Public(), Peer: from.Address(), Proto: step.ProtoBank, Op: step.Op(f.Op),
		Objects: c.verified(f.Objects...), Body: f.Body})
}

// write makes some of what was decided durable, in order.
func (c *counter) write(n int) {
	group := c.writes[:n]
	c.writes = slices.Clone(c.writes[n:])
	var batches []store.Batch
	for _, out := range group {
		batches = append(batches, batchOf(out))
	}
	if err := c.disk.Commit(batches); err != nil {
		c.t.Fatal(err)
	}
	if !c.early {
		c.leaving = append(c.leaving, group...)
	}
}

// tell lets the answers of a step leave.
func (c *counter) tell(out *step.Out) {
	c.tick++
	for _, r := range out.Replies {
		if q := c.asked[r.ID]; q != nil && !q.deaf && (q.local || c.lots.IntN(100) >= 12) {
			q.ended, q.heard = c.tick, c.reply(out, q.demand, r)
		}
	}
	for _, a := range out.Answers {
		if q := c.asked[a.ID]; q != nil {
			q.ended, q.heard = c.tick, c.answer(a)
		}
	}
}

// die ends the node. Some of what was decided may have reached the disk; nobody is told.
func (c *counter) die() {
	c.crashes++
	if n := len(c.writes); n > 0 {
		c.write(c.lots.IntN(n + 1))
	}
	c.writes, c.leaving = nil, nil
	for _, q := range c.wire {
		if q.local {
			q.void = true
		}
	}
	c.wire = slices.DeleteFunc(c.wire, func(q *call) bool { return q.void })
	clear(c.asked)
	if err := c.disk.Close(); err != nil {
		c.t.Fatal(err)
	}
	c.disk = c.open()
	c.boot()
}

// minute lets the clock go on to the next minute, in which the bank looks after every account again.
func (c *counter) minute() {
	c.now = (c.now/(60*member.Second) + 1) * 60 * member.Second
	c.begin(&call{demand: demand{what: askTick}})
	c.step(step.Tick{})
}

// waiting are the calls whose askers have neither heard the answer nor given up.
func (c *counter) waiting() (n int) {
	for _, q := range c.history {
		if q.ended == 0 && !q.deaf && q.demand.what != askTick && (slices.Contains(c.wire, q) || c.out(q)) {
			n++
		}
	}
	return n
}

func (c *counter) out(q *call) bool {
	for _, o := range c.asked {
		if o == q {
			return true
		}
	}
	return false
}

// run makes a history of so many questions, and in the end asks how everything stands.
func (c *counter) run(questions int) {
	for asked := 0; asked < questions; {
		switch lot := c.lots.IntN(100); {
		case lot < 34 && c.waiting() < 6:
			c.ask(c.lots.IntN(6), c.draw())
			asked++
		case lot < 60 && len(c.wire) > 0:
			c.arrive()
		case lot < 78 && len(c.writes) > 0:
			c.write(1 + c.lots.IntN(len(c.writes)))
		case lot < 96 && len(c.leaving) > 0:
			c.tell(c.leaving[0])
			c.leaving = c.leaving[1:]
		case lot == 97:
			c.die()
		case lot == 98:
			c.minute()
		}
	}
	c.die()
	c.settleDown()
	for who := range mostAccounts {
		c.ask(0, demand{what: askLook, of: who})
	}
	c.settleDown()
}

// settleDown lets everything under way come to its end.
func (c *counter) settleDown() {
	for len(c.wire)+len(c.writes)+len(c.leaving) > 0 {
		for len(c.wire) > 0 {
			c.arrive()
		}
		c.write(len(c.writes))
		for _, out := range c.leaving {
			c.tell(out)
		}
		c.leaving = nil
	}
}

// operations is the history as the checker reads it. What nobody heard the answer of ends last.
func (c *counter) operations() (ops []porcupine.Operation, unknown int) {
	c.tick++
	for _, q := range c.history {
		switch {
		case q.void:
			continue
		case q.ended == 0:
			unknown++
			q.ended = c.tick
		}
		ops = append(ops, porcupine.Operation{ClientId: q.client, Input: q.demand, Call: q.begun, Output: q.heard, Return: q.ended})
	}
	return ops, unknown
}

// debtors are the tenants in the order of their addresses.
func debtors() []int {
	list := []int{alice, bob}
	slices.SortFunc(list, func(a, b int) int { return bankKeys[a].Address().Compare(bankKeys[b].Address()) })
	return list
}

// memory is a disk that survives the crashes of one history.
func memory() func() bankDisk {
	m := store.NewMemory()
	return func() bankDisk { return m }
}

// home is a real store in a folder.
func home(t *testing.T) func() bankDisk {
	dir := filepath.Join(t.TempDir(), "home")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return func() bankDisk {
		s, err := store.Open(dir, store.Options{Log: slog.New(slog.NewTextHandler(io.Discard, nil)), SegmentSize: 64 << 10})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
}

// linear checks a history against the naive bank. A search that takes too long says nothing.
func linear(c *counter) (result porcupine.CheckResult, calls, unknown int) {
	ops, unknown := c.operations()
	return porcupine.CheckOperationsTimeout(modelOf(modelBeginning(), debtors()), ops, 5*time.Second), len(ops), unknown
}

// TestHistoriesOfTheBank has many ask one bank at once, over a network that loses and doubles, while its node dies and comes back: whatever
// they are told is what one bank, asked one thing after another, would have told them.
func TestHistoriesOfTheBank(t *testing.T) {
	begin := beginning(t)
	most := *historiesFlag
	if most == 0 {
		most = 60
	}
	calls, unknown, crashes, homes, undecided := 0, 0, 0, 0, 0
	for seed := range uint64(most) {
		open := memory()
		if seed%20 == 7 {
			open = home(t)
			homes++
		}
		c := newCounter(t, seed, begin, open)
		c.run(questionsOfEach)
		if err := c.node.Operator().Audit(); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		c.disk.Close()
		result, n, dark := linear(c)
		switch result {
		case porcupine.Illegal:
			t.Fatalf("seed %d: no order of these calls explains what was told:\n%s", seed, c.story())
		case porcupine.Unknown:
			undecided++
		}
		calls, unknown, crashes = calls+n, unknown+dark, crashes+c.crashes
	}
	if undecided*20 > most {
		t.Errorf("%d of %d histories were too long to decide", undecided, most)
	}
	t.Logf("histories: %d of a bank that many ask at once, %d on real disks, %d calls, %d without an answer, %d crashes: all linearizable, %d not decided in time",
		most, homes, calls, unknown, crashes, undecided)
}

// story is a history for people.
func (c *counter) story() string {
	var b strings.Builder
	for _, q := range c.history {
		if !q.void {
			fmt.Fprintf(&b, "%4d-%-4d client %d %+v: %+v\n", q.begun, q.ended, q.client, q.demand, q.heard)
		}
	}
	return b.String()
}

// A node that answers before its disk has what it answers with is found out: the check can fail.
func TestAnswersBeforeTheDiskAreNoticed(t *testing.T) {
	begin := beginning(t)
	for seed := range uint64(40) {
		c := newCounter(t, seed, begin, memory())
		c.early = true
		c.run(questionsOfEach)
		if result, _, _ := linear(c); result == porcupine.Illegal {
			return
		}
	}
	t.Error("nothing was noticed in 40 histories")
}
