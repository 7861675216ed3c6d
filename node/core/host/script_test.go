package host_test

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"souk/ledger"
	"souk/market"
	"souk/node/core/host"
	"souk/node/core/step"
	"souk/p2p/member"
	"souk/p2p/wire"
)

var update = flag.Bool("update", false, "rewrite the facts in testdata")

// A script is lines of a time and what happens then. Below each stand, indented, the facts that follow: what the host
// writes into its log, the minutes that it closes, what it wants of pods and tells the bank, the vouchers that it gets.
// The day is that of noon; 1.12:00:00 is the next one. A "# no crash" in it says that a crash changes what happens.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no scripts", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := play(newBench(t, false), string(text))
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if got != string(text) {
				t.Errorf("facts have changed:\n%s", diff(string(text), got))
			}
			if strings.Contains(got, "# no crash") {
				return
			}
			if again := play(newBench(t, true), got); lasting(again) != lasting(got) {
				t.Errorf("with a crash before every step:\n%s", diff(lasting(got), lasting(again)))
			}
		})
	}
}

// lasting is the facts that no crash may change. A restart may hold the signing of a minute back until the engine has been
// asked, so the time at which a fact is noted is not among them.
func lasting(text string) string {
	var out []string
	for _, line := range strings.Split(text, "\n") {
		f := strings.Fields(line)
		if strings.HasPrefix(line, "  ") && len(f) > 2 {
			out = append(out, strings.Join(f[1:], " "))
		}
	}
	return strings.Join(out, "\n")
}

// diff is the lines that differ.
func diff(want, got string) string {
	a, b := strings.Split(want, "\n"), strings.Split(got, "\n")
	for len(a) > 0 && len(b) > 0 && a[0] == b[0] {
		a, b = a[1:], b[1:]
	}
	for len(a) > 0 && len(b) > 0 && a[len(a)-1] == b[len(b)-1] {
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	return "- " + strings.Join(a, "\n- ") + "\n+ " + strings.Join(b, "\n+ ")
}

func play(b *bench, text string) string {
	var out []string
	for _, line := range strings.Split(strings.TrimRight(text, "\n"), "\n") {
		if strings.HasPrefix(line, "  ") {
			continue
		}
		if out = append(out, line); line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		at, what, _ := strings.Cut(line, " ")
		b.to(instant(b, at))
		early := b.facts
		b.facts = nil
		b.do(strings.Fields(what))
		b.to(b.now) // what the engine and the bank answer at once
		out = append(slices.Insert(out, len(out)-1, early...), b.facts...)
		b.facts = nil
	}
	return strings.Join(out, "\n") + "\n"
}

func instant(b *bench, s string) member.Time {
	b.t.Helper()
	day := 0
	if d, rest, ok := strings.Cut(s, "."); ok {
		day, _ = strconv.Atoi(d)
		s = rest
	}
	t, err := time.Parse("15:04:05", s)
	if err != nil {
		b.t.Fatal(err)
	}
	return noon/member.Day*member.Day + member.Time(day)*member.Day + member.At(t) - member.At(t.Truncate(24*time.Hour))
}

// do carries out one line.
func (b *bench) do(words []string) {
	b.t.Helper()
	verb, args := words[0], words[1:]
	if len(args) > 0 && strings.HasPrefix(args[0], "L") {
		n, err := strconv.Atoi(args[0][1:])
		if err != nil {
			b.t.Fatal(err)
		}
		b.doLease(verb, wire.ID{byte(n)}, args[1:])
		return
	}
	switch verb {
	case "gpus": // gpus 1 2 3: these are found on the machine
		b.hardware = step.Inventory{Machine: member.Machine{Runtime: "docker", DiskGiB: 1000}}
		for _, n := range args {
			b.hardware.Devices = append(b.hardware.Devices, member.Device{UUID: "GPU-" + n, Model: "RTX_4090", MemoryMiB: 24576, Simulated: true})
		}
		b.step(func(ctx *step.Context) { b.h.Inventory(ctx, b.hardware) })
	case "unfit": // unfit WORDS…: the machine fails its self-test; without words it passes again
		b.hardware.Unfit = strings.Join(args, " ")
		b.step(func(ctx *step.Context) { b.h.Inventory(ctx, b.hardware) })
	case "advertise": // advertise PRICE FLOOR
		b.local(host.Advertise{Price: rate(b, args[0]), Floor: rate(b, args[1])})
	case "withdraw":
		b.local(host.Withdraw{})
	case "engine": // engine up, engine down
		b.engineUp = args[0] == "up"
		b.step(func(ctx *step.Context) { b.h.Engine(ctx, step.Engine{Up: b.engineUp}) })
	case "blind": // the engine's answers to looks are lost
		b.blind = true
	case "sees":
		b.blind = false
	case "deaf": // no member is heard any more
		b.world.deaf = true
	case "hears":
		b.world.deaf = false
	case "bank": // bank away, bank back
		b.bankAway = args[0] == "away"
	case "witness": // witness dave on: it bears witness if it is asked to
		b.witnesses[args[0]].away = args[1] != "on"
	case "down": // the node is killed
		b.down = true
	case "power": // the machine loses its power: its containers are gone
		b.down = true
		for _, p := range b.pods {
			*p = pod{want: p.want}
		}
	case "boot":
		b.load()
		b.boot()
	case "revoke": // revoke alice: for fraud
		b.sanction(args[0], member.Revoke)
	case "end": // nothing more
	default:
		b.t.Fatalf("no verb %q", verb)
	}
}

// fundsNotice is the bank's, of the first time that it is asked for.
func (b *bench) fundsNotice(d *deal) wire.Verified[ledger.FundsNotice] {
	if b.noticed == 0 {
		b.noticed = b.now
	}
	return seal(b, operator, ledger.FundsNotice{Operator: operator.Address(), Consumer: d.by.Address(), Seq: 1, At: b.noticed,
		ForfeitAt: b.noticed + member.Time(d.terms.Hold)*60*member.Second})
}

func (b *bench) sanction(who string, s member.Sanction) {
	if err := b.world.Sanction(member.Revocation{Operator: operator.Address(), Number: 1, Subject: people[who].Address(), Sanction: s,
		Fraud: true, Reason: "proven", At: b.now}); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) local(cmd any) step.Answer {
	b.t.Helper()
	out := b.step(func(ctx *step.Context) {
		if !b.h.Local(ctx, 1, cmd) {
			b.t.Fatalf("%T is not taken", cmd)
		}
	})
	if len(out.Answers) != 1 {
		b.t.Fatalf("%T: %d answers", cmd, len(out.Answers))
	}
	if err := out.Answers[0].Err; err != nil {
		b.fact(wire.ID{}, "problem: %v", err)
	}
	return out.Answers[0]
}

func (b *bench) doLease(verb string, id wire.ID, args []string) {
	b.t.Helper()
	d := b.deals[id]
	switch verb {
	case "request": // request L1 alice spot 0.60 budget=1 minutes=10 volume=100 gpus=2 on-end=remove
		kind, err := market.ParseBidKind(args[1])
		if err != nil {
			b.t.Fatal(err)
		}
		if d == nil {
			d = b.newDeal(id, args[0], kind, rate(b, args[2]))
		}
		d.options(b, args[3:])
		b.said(d, b.request(d))
	case "accept": // accept L1 cap=0.5
		if len(args) > 0 {
			d.res.Cap = ledger.Amount(rate(b, strings.TrimPrefix(args[0], "cap=")))
		}
		b.said(d, b.accept(d))
	case "decline":
		b.said(d, b.ask(d.by, step.OpDecline, step.LeaseBody{Lease: id}))
	case "ask": // what became of it?
		b.said(d, b.ask(d.by, step.OpGetLease, step.LeaseBody{Lease: id}))
	case "raise":
		d.res.Seq, d.res.Cap = d.res.Seq+1, ledger.Amount(rate(b, args[0]))
		b.said(d, b.ask(d.by, step.OpRaise, nil, seal(b, operator, d.res)))
	case "stop":
		b.said(d, b.order(d, market.CommandStop, false))
	case "start": // start L1, start L1 zero; the bank has raised the reservation before
		d.res.Seq, d.res.Cap = d.res.Seq+1, max(d.res.Cap, b.places[id].Meter.Owed()+ledger.Amount(d.terms.Rate))
		b.said(d, b.order(d, market.CommandStart, len(args) > 0))
	case "mandate": // mandate L1 most=2 minutes=60 panel=bank,dave
		b.said(d, b.give(d, args))
	case "unmandate":
		b.said(d, b.order(d, market.CommandRevoke, false))
	case "lodged": // lodged L1: the consumer's stop comes by way of the bank
		d.commands++
		c := b.command(d, market.CommandStop, false)
		b.said(d, b.ask(operator, step.OpCommand, nil, c, seal(b, operator, market.Lodged{Operator: operator.Address(), Lease: d.id, Seq: d.commands,
			Command: c.Ref(), Minute: b.minute() - 1, At: b.now})))
	case "rm":
		b.said(d, b.order(d, market.CommandRemove, false))
	case "repeat": // the last command comes again
		b.said(d, b.ask(d.by, step.OpCommand, nil, b.command(d, market.CommandStop, false)))
	case "up":
		b.up(id)
	case "stubborn": // it ignores SIGTERM
		b.pods[id].stubborn = true
	case "exit": // exit L1 CODE
		code, _ := strconv.Atoi(args[0])
		b.end(id, int32(code))
	case "funds": // funds L1: its bank says that the consumer is out of funds
		b.said(d, b.ask(operator, step.OpFunds, nil, b.fundsNotice(d)))
	case "forfeit": // forfeit L1: and now that it has lost it
		n := b.fundsNotice(d)
		b.said(d, b.ask(operator, step.OpFunds, nil, n, seal(b, operator, ledger.Forfeit{Operator: operator.Address(), Consumer: d.by.Address(),
			Host: self.Address(), Lease: d.id, Reservation: d.res.ID, Notice: n.Ref(), At: n.Value().ForfeitAt})))
	case "young": // young L1: the bank forfeits before the time that the terms set
		n := b.fundsNotice(d)
		b.said(d, b.ask(operator, step.OpFunds, nil, n, seal(b, operator, ledger.Forfeit{Operator: operator.Address(), Consumer: d.by.Address(),
			Host: self.Address(), Lease: d.id, Reservation: d.res.ID, Notice: n.Ref(), At: n.Value().At + 60*member.Second})))
	case "dies": // dies L1 CODE: nobody hears of it
		code, _ := strconv.Atoi(args[0])
		b.pods[id].finished, b.pods[id].code = b.now, int32(code)
	case "found": // found L1: somebody has looked
		b.observe(id)
	case "fail": // fail L1 image
		fault := map[string]step.PodFault{"image": step.FaultImage, "command": step.FaultCommand, "engine": step.FaultEngine}[args[0]]
		b.pod(step.PodEvent{Lease: id, Start: b.pods[id].want.Start, What: step.PodFailed, Fault: fault, Detail: "why"})
	case "attend", "pay": // attend L1 off
		on := args[0] == "on"
		if verb == "pay" {
			d.pays = on
		} else if d.attends = on; on {
			d.next = max(b.now, d.next)
		}
	default:
		b.t.Fatalf("no verb %q of a lease", verb)
	}
}

// said notes a refusal, and what an answer that is no plain yes carries.
func (b *bench) said(d *deal, r step.Reply) {
	if r.Refusal != nil {
		b.fact(d.id, "refused %d: %s", r.Refusal.Code, r.Refusal.Reason)
	}
	for _, o := range r.Frame.Objects {
		b.fact(d.id, "answer: %v", o.Kind)
	}
}

func (d *deal) options(b *bench, args []string) {
	for _, a := range args {
		k, v, _ := strings.Cut(a, "=")
		n, _ := strconv.ParseUint(v, 10, 64)
		switch k {
		case "budget":
			d.request.Budget = ledger.Amount(rate(b, v))
		case "minutes":
			d.request.Minutes = n
		case "volume": // in GB
			d.request.Spec.Volume, d.request.Spec.Mount = n*1_000_000_000, "/workspace"
		case "gpus":
			d.request.GPUs = uint16(n)
		case "on-end":
			d.request.OnEnd = market.OnEndRemove
		default:
			b.t.Fatalf("no option %q", k)
		}
	}
}

func rate(b *bench, s string) ledger.Rate {
	a, err := ledger.ParseAmount(s)
	if err != nil {
		b.t.Fatal(err)
	}
	return ledger.Rate(a)
}
