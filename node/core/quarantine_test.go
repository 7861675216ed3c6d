package core_test

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"souk/ledger"
	"souk/node/core"
	"souk/node/core/consumer"
	"souk/node/core/observer"
	"souk/node/core/operator"
	"souk/node/core/step"
	"souk/node/core/table"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// refused has a command fail with a code.
func refused(p *peer, cmd any, code step.ProblemCode) *step.Problem {
	p.t.Helper()
	_, err := p.try(cmd)
	var no *step.Problem
	if !errors.As(err, &no) || no.Code != code || no.Hint == "" {
		p.t.Fatalf("%T: %v, want problem %d with a hint", cmd, err, code)
	}
	return no
}

func isolate(p *peer) {
	r := core.QuarantineRow("restored from a backup", noon)
	p.rows[string(r.Key)] = r.Value
	p.crash()
}

// A node in quarantine reads, syncs and says hello; all else is refused, with what it waits for; a restart changes nothing.
func TestQuarantineSignsNothing(t *testing.T) {
	op, a, _ := town(t)
	isolate(op)
	if len(op.out.Guards) > 0 || len(op.out.Publish) > 0 {
		t.Errorf("it begins with %+v", op.out)
	}
	for range 2 {
		*op.now += 2 * 60 * member.Second
		if out := op.step(step.Tick{}); len(out.Guards) > 0 || len(out.Publish) > 0 {
			t.Errorf("a tick gives %+v", out)
		}
		no := refused(op, operator.Deposit{}, step.ProblemQuarantine)
		if !strings.Contains(no.Text, "restored from a backup") || !strings.Contains(no.Text, "the bank's newest books") {
			t.Errorf("it says %q", no.Text)
		}
		refused(op, observer.Join{}, step.ProblemQuarantine)
		c := must[core.Condition](op, core.Health{})
		if c.Quarantine == "" || len(c.Awaited) != 1 || c.Since != noon || c.Hint == "" {
			t.Errorf("condition %+v", c)
		}
		must[observer.Standing](op, observer.Where{})
		for _, proto := range []step.Protocol{step.ProtoBank, step.ProtoLease, step.ProtoJoin} {
			r := op.ask(a, proto, step.OpBalance, nil)
			if r.Refusal == nil || r.Refusal.Code != step.RefuseQuarantine || !strings.Contains(r.Refusal.Reason, "restored from a backup") {
				t.Errorf("%s: %+v", proto, r.Refusal)
			}
		}
		if r := op.ask(a, step.ProtoHeld, step.OpHeld, wire.Marshal(step.LeaseBody{})); r.Refusal != nil {
			t.Errorf("held: %v", r.Refusal)
		}
		op.crash()
	}
}

// What nobody has to be asked for ends at once, and what the user gives up ends when he says so.
func TestQuarantineOfOneWhoOwesNothingEnds(t *testing.T) {
	_, a, _ := town(t)
	if _, err := a.try(core.AcceptLoss{}); err == nil {
		t.Error("a loss was accepted where there is none")
	}
	isolate(a) // in no market yet: nothing was signed, and nobody can be asked
	refused(a, core.AcceptLoss{}, step.ProblemQuarantine)
}

// A disk that is nearly full takes nothing new; a full one signs nothing; with room again all goes on by itself.
func TestRoomIsAGate(t *testing.T) {
	op, a, _ := town(t)
	room := func(l step.Level) *step.Out { return op.step(step.Room{Level: l, Free: 1 << 20, Want: 8 << 20}) }
	told := func(out *step.Out, kind string) {
		t.Helper()
		if len(out.Notices) == 0 || out.Notices[0].Type != kind {
			t.Errorf("notices %+v, want %s", out.Notices, kind)
		}
	}
	ask := func(proto step.Protocol, o step.Op) *step.Refusal { return op.ask(a, proto, o, nil).Refusal }

	told(room(step.RoomLow), "disk.low")
	if no := ask(step.ProtoBank, step.OpReserve); no == nil || no.Code != step.RefuseDisk {
		t.Errorf("new work on a nearly full disk: %v", no)
	}
	if no := ask(step.ProtoBank, step.OpBalance); no != nil && no.Code == step.RefuseDisk {
		t.Errorf("what is under way: %v", no)
	}
	must[operator.Invitation](op, operator.InviteCreate{Secret: wire.ID{1}, Role: member.RoleConsumer, Life: member.Day})

	told(room(step.RoomFull), "disk.full")
	*op.now += 2 * 60 * member.Second
	if out := op.step(step.Tick{}); len(out.Guards) > 0 {
		t.Errorf("a full disk is signed on: %+v", out.Guards)
	}
	if no := ask(step.ProtoBank, step.OpBalance); no == nil || no.Code != step.RefuseDisk {
		t.Errorf("a request to a full node: %v", no)
	}
	refused(op, operator.InviteCreate{Secret: wire.ID{2}, Role: member.RoleConsumer, Life: member.Day}, step.ProblemDisk)
	if c := must[core.Condition](op, core.Health{}); c.Disk != "full" || c.Room == "" || c.Hint == "" {
		t.Errorf("condition %+v", c)
	}

	if out := room(step.RoomLow); !out.AllPods {
		t.Error("the engine is not asked what became of the pods meanwhile")
	}
	told(room(step.RoomAmple), "disk.ample")
	if err := op.node.Operator().Audit(); err != nil {
		t.Error(err)
	}
	must[operator.Invitation](op, operator.InviteCreate{Secret: wire.ID{2}, Role: member.RoleConsumer, Life: member.Day})
	if c := must[core.Condition](op, core.Health{}); c.Disk != "" || c.Hint != "" {
		t.Errorf("condition %+v", c)
	}
}

// booksTown is a market in which a hosts, and b has money.
func booksTown(t *testing.T) (op, a, b *peer) {
	op, a, b = town(t)
	a.host(op)
	b.join(op.invite(member.RoleConsumer))
	must[operator.DepositView](op, operator.Deposit{Addr: b.key.Address().String(), Amount: 25 * ledger.Credit, Ref: "first"})
	return op, a, b
}

// restored puts the books of an earlier moment back.
func (p *peer) restored(rows map[string][]byte) {
	p.rows = maps.Clone(rows)
	isolate(p)
}

// wait lets a while pass.
func (p *peer) wait() core.Condition {
	p.t.Helper()
	for range 15 {
		*p.now += member.Second
		p.step(step.Tick{})
	}
	return must[core.Condition](p, core.Health{})
}

func give(p *peer, to *peer, id byte) {
	p.t.Helper()
	must[consumer.Payment](p, consumer.Give{ID: wire.ID{id}, To: to.key.Address(), Amount: ledger.Credit})
}

// A bank whose books are its newest goes on when all members have shown what they hold of it; whoever is away is waited for, or given
// up by name.
func TestRestoredBankGoesOnWhenNobodyHoldsMore(t *testing.T) {
	for name, patient := range map[string]bool{"all answer": true, "one is given up": false} {
		t.Run(name, func(t *testing.T) {
			op, a, b := booksTown(t)
			give(b, a, 1)
			a.away = true
			op.restored(op.rows)
			c := op.wait()
			if len(c.Awaited) != 1 || !strings.Contains(c.Awaited[0], a.key.Address().Short()) || len(c.Missing) != 0 {
				t.Fatalf("it waits for %q, and lacks %q", c.Awaited, c.Missing)
			}
			if patient {
				a.away = false
				c = op.wait()
			} else if v := must[core.Accepted](op, core.AcceptLoss{}); len(v.Lost) != 1 || v.Lost[0] != c.Awaited[0] {
				t.Fatalf("given up: %q", v.Lost)
			} else {
				c = op.wait()
			}
			if c.Quarantine != "" {
				t.Fatalf("still in quarantine: %+v", c)
			}
			a.away = false
			give(b, a, 2)
			if n := must[operator.HeightView](op, operator.Height{}).Entries; n != 3 {
				t.Errorf("%d entries, want 3", n)
			}
		})
	}
}

// A bank whose books are old stays in quarantine, whatever its user says, and tells what they lack; with the newest it goes on.
func TestRestoredBankWithOldBooksSaysWhatTheyLack(t *testing.T) {
	op, a, b := booksTown(t)
	old := maps.Clone(op.rows)
	give(b, a, 1)
	newest := maps.Clone(op.rows)
	op.restored(old)
	c := op.wait()
	if len(c.Missing) == 0 || !slices.ContainsFunc(c.Missing, func(s string) bool { return strings.Contains(s, "transfer 0100") && strings.Contains(s, "entry 2") }) {
		t.Fatalf("it lacks %q, waits for %q", c.Missing, c.Awaited)
	}
	op.crash()
	if no := refused(op, core.AcceptLoss{}, step.ProblemQuarantine); !strings.Contains(no.Text, c.Missing[0]) || !strings.Contains(no.Hint, "newer books") {
		t.Errorf("it says %q, hint %q", no.Text, no.Hint)
	}
	if c := op.wait(); c.Quarantine == "" {
		t.Error("it goes on with old books")
	}
	op.restored(newest)
	if c := op.wait(); c.Quarantine != "" {
		t.Errorf("with the newest books: %+v", c)
	}
}

// Who was admitted since the books were copied is asked too, once he is heard of.
func TestRestoredBankAsksWhomItHasForgotten(t *testing.T) {
	op, a, b := town(t)
	a.host(op)
	old := maps.Clone(op.rows)
	b.join(op.invite(member.RoleConsumer))
	must[operator.DepositView](op, operator.Deposit{Addr: b.key.Address().String(), Amount: 25 * ledger.Credit, Ref: "first"})
	give(b, a, 1)
	for _, o := range b.said {
		a.hears(o)
	}
	a.away = true
	op.restored(old)
	if c := op.wait(); len(c.Awaited) != 1 {
		t.Fatalf("it waits for %q", c.Awaited)
	}
	op.hears(credentialOf(t, b))
	if c := op.wait(); len(c.Missing) == 0 {
		t.Errorf("it waits for %q, and lacks nothing", c.Awaited)
	}
}

// credentialOf is a peer's own credential, as it shows it.
func credentialOf(t *testing.T, p *peer) wire.Object {
	_, o, ok := p.node.Observer().Credential(p.key.Address())
	if !ok {
		t.Fatal("no credential")
	}
	return o
}

// What a bank has said beside its books comes back from its members, and no number of it is given again.
func TestRestoredBankLearnsItsOwnWords(t *testing.T) {
	op, a, b := booksTown(t)
	old := maps.Clone(op.rows)
	must[operator.SanctionView](op, operator.Sanction{Addr: b.key.Address().String(), What: member.Suspend, Reason: "late"})
	for _, o := range op.said {
		if o.Kind == wire.KindRevocation {
			a.hears(o)
		}
	}
	op.restored(old)
	if c := op.wait(); c.Quarantine != "" {
		t.Fatalf("still in quarantine: %+v", c)
	}
	if n, _ := op.node.Observer().LastRevocation(); n != 1 {
		t.Errorf("the last revocation is %d, want 1", n)
	}
	must[operator.SanctionView](op, operator.Sanction{Addr: a.key.Address().String(), What: member.Suspend, Reason: "late too"})
	for _, r := range op.node.Rows() {
		if table.Table(r.Key[0]) != table.Shortage {
			continue
		}
		var s ledger.Shortage
		if err := wire.Load(r.Value, &s); err != nil || !s.Over || s.Notice.Seq < uint64(noon) {
			t.Errorf("the next notice follows %+v, %v", s, err)
		}
		return
	}
	t.Error("funds notices begin at 1 again")
}
