package core_test

import (
	"errors"
	"strings"
	"testing"

	"souk/node/core"
	"souk/node/core/observer"
	"souk/node/core/operator"
	"souk/node/core/step"
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
		if !strings.Contains(no.Text, "restored from a backup") || !strings.Contains(no.Text, "the bank's books") {
			t.Errorf("it says %q", no.Text)
		}
		refused(op, observer.Join{}, step.ProblemQuarantine)
		refused(op, core.AcceptLoss{}, step.ProblemQuarantine) // a bank's books
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
