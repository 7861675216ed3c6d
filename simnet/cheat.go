package simnet

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"souk/ledger"
	"souk/node/core/step"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// A Cheat is one way of not keeping to the rules, or of getting by where another cannot. Whoever does it runs the very core
// that everybody runs; the cheat stands around it: what goes in is lost or made up, what comes out is kept back.
type Cheat uint8

// The cheats. Honest consumers give mandates in worlds with cheats as in others. CheatSilentUnseen always gives one: it falls silent
// while the witnesses of its host are out. What CheatMandateStop adds to CheatWithheldStop is that the host also refuses orders,
// or says that it has carried them out, and bills on.
const (
	CheatNoVoucher Cheat = iota + 1
	CheatSilent
	CheatSilentCut
	CheatLoop
	CheatAbandon
	CheatClockConsumer
	CheatMeddle
	CheatEarlyKill
	CheatWithheldStop
	CheatNoCert
	CheatLateCert
	CheatForge
	CheatClockHost
	CheatClockBank
	CheatBankGone
	CheatSilentUnseen
	CheatMandateStop
	cheatsEnd
)

// A part is who does a cheat.
type part uint8

const (
	partConsumer part = iota
	partHost
	partBank
)

// cheats says of each who does it, whether that makes the node one whose own losses and ends are its own affair, and what it
// is.
var cheats = [cheatsEnd]struct {
	name    string
	by      part
	crooked bool
}{
	CheatNoVoucher:     {"refused-voucher", partConsumer, true},
	CheatSilent:        {"silent-consumer", partConsumer, true},
	CheatSilentCut:     {"silent-while-cut-off", partConsumer, true},
	CheatLoop:          {"stop-start-loop", partConsumer, true},
	CheatAbandon:       {"hold-and-abandon", partConsumer, true},
	CheatClockConsumer: {"clock-jump-consumer", partConsumer, true},
	CheatMeddle:        {"bad-input", partConsumer, true},
	CheatEarlyKill:     {"early-kill", partHost, true},
	CheatWithheldStop:  {"withheld-stop", partHost, true},
	CheatNoCert:        {"accept-without-cert", partHost, true},
	CheatLateCert:      {"cert-lost-on-the-wire", partHost, false},
	CheatForge:         {"forged-usage", partHost, true},
	CheatClockHost:     {"clock-jump-host", partHost, true},
	CheatClockBank:     {"clock-jump-bank", partBank, true},
	CheatBankGone:      {"bank-gone", partBank, false},
	CheatSilentUnseen:  {"silent-under-mandate", partConsumer, true},
	CheatMandateStop:   {"stop-withheld-under-mandate", partHost, true},
}

// String is what the cheat is called.
func (c Cheat) String() string {
	if c == 0 || c >= cheatsEnd {
		return "unknown"
	}
	return cheats[c].name
}

// Cheats are all of them.
func Cheats() []Cheat {
	var out []Cheat
	for c := Cheat(1); c < cheatsEnd; c++ {
		out = append(out, c)
	}
	return out
}

// ParseCheats reads names with commas between them, or "all", or "none".
func ParseCheats(s string) ([]Cheat, error) {
	switch s {
	case "", "none":
		return nil, nil
	case "all":
		return Cheats(), nil
	}
	var out []Cheat
	for _, name := range strings.Split(s, ",") {
		i := slices.IndexFunc(Cheats(), func(c Cheat) bool { return c.String() == name })
		if i < 0 {
			return nil, fmt.Errorf("no cheat %q; there are all, none, %s", name, strings.Join(CheatNames(), ", "))
		}
		out = append(out, Cheats()[i])
	}
	return out, nil
}

// CheatNames are what all of them are called.
func CheatNames() []string {
	var out []string
	for _, c := range Cheats() {
		out = append(out, c.String())
	}
	return out
}

// A Tally is what came of one cheat in a run: what whoever tried it got, which is what it cost others.
type Tally struct {
	Cheat    string          `json:"cheat"`
	Node     string          `json:"node"`
	Tried    int             `json:"tried"`
	Free     time.Duration   `json:"freeNanos"`          // for which pods ran and nothing was billed, beyond what is free for everybody
	Worst    time.Duration   `json:"worstFreeNanos"`     // the most of that in one start
	Held     time.Duration   `json:"heldNanos"`          // for which GPUs or money stood idle for somebody else's sake
	Unpaid   ledger.Amount   `json:"unpaid"`             // owed to honest hosts and never paid
	Overpaid ledger.Amount   `json:"overpaid"`           // paid by honest consumers for less than they had ordered
	Ran      []time.Duration `json:"ranNanos,omitempty"` // of each pod that ran while the bank was gone: how long
	Refused  int             `json:"refused"`            // how often somebody said no to it
	Tricks   map[string]int  `json:"tricks,omitempty"`   // kinds of bad input, and how often each was sent
}

// Text says it in a line: who, how often, what it got and what it cost others.
func (t Tally) Text() string {
	out := []string{fmt.Sprintf("%s, %d times", t.Node, t.Tried)}
	say := func(there bool, format string, args ...any) {
		if there {
			out = append(out, fmt.Sprintf(format, args...))
		}
	}
	round := func(d time.Duration) time.Duration { return d.Round(time.Second) }
	say(t.Refused > 0, "refused %d times", t.Refused)
	say(t.Free > 0, "ran pods for nothing for %v, at most %v of one start", round(t.Free), round(t.Worst))
	say(t.Unpaid > 0, "left %s unpaid", t.Unpaid.Text())
	say(t.Overpaid > 0, "was paid %s for pods that it ended", t.Overpaid.Text())
	say(t.Held > 0, "kept GPUs or money from others for %v", round(t.Held))
	for i, d := range t.Ran {
		if i == 8 {
			out = append(out, fmt.Sprintf("and %d more", len(t.Ran)-i))
			break
		}
		say(true, "a pod ran on for %v", round(d))
	}
	if len(out) == 1 {
		out = append(out, "got nothing, and cost nobody anything")
	}
	return strings.Join(out, "; ")
}

// A rogue is what a node does beside its core, or in its way.
type rogue struct {
	Tally
	cheat Cheat
	n     *node
	rnd   lots

	mute func(s *step.Send) bool                             // its core's question does not leave
	deaf func(proto step.Protocol, f wire.Frame) bool        // a question does not reach its core
	deny func(proto step.Protocol, f wire.Frame) *step.Reply // what is answered in its place; nil: let it
	hush func(to *node, f wire.Frame, r *step.Reply) bool    // an answer does not leave
	run  func(c *container)                                  // a container of its machine has started
	act  func(b *buyer)                                      // what its user does, in place of what users do
	mood bool                                                // whether it cheats now, where it does so at times
	veil bool                                                // it keeps back that it sees its pod run
	odd  map[wire.ID]bool                                    // leases that it treats so
	past map[wire.ID]member.Time                             // until when, or since when
}

// crooked reports whether a node cheats of its own will.
func (n *node) crooked() bool { return n.rogue != nil && cheats[n.rogue.cheat].crooked }

// cast deals the cheats that are asked for to nodes, by the seed. At least one host and one consumer stay honest, and no node
// has two; what is left over is not played.
func (w *world) cast() {
	rnd := newLots(w.opt.Seed, "cheats")
	free := map[part][]*node{partBank: {w.nodes[0]}}
	for _, n := range w.nodes[1:] {
		if n.host != nil {
			free[partHost] = append(free[partHost], n)
		} else {
			free[partConsumer] = append(free[partConsumer], n)
		}
	}
	for _, p := range []part{partHost, partConsumer} {
		rnd.Shuffle(len(free[p]), func(i, j int) { free[p][i], free[p][j] = free[p][j], free[p][i] })
		free[p] = free[p][min(1, len(free[p])):]
	}
	deal := slices.Clone(w.opt.Cheats)
	rnd.Shuffle(len(deal), func(i, j int) { deal[i], deal[j] = deal[j], deal[i] })
	for _, c := range deal {
		p := cheats[c].by
		if len(free[p]) == 0 {
			continue
		}
		n := free[p][0]
		free[p] = free[p][1:]
		n.rogue = &rogue{Tally: Tally{Cheat: c.String(), Node: n.name}, cheat: c, n: n, rnd: newLots(w.opt.Seed, "rogue/"+n.name), odd: map[wire.ID]bool{}, past: map[wire.ID]member.Time{}}
		w.rogues = append(w.rogues, n.rogue)
	}
	for _, r := range w.rogues {
		r.begin()
	}
}

// begin has the node do what its cheat is.
func (r *rogue) begin() {
	switch r.cheat {
	case CheatNoVoucher:
		r.noVoucher()
	case CheatSilent, CheatSilentCut, CheatSilentUnseen:
		r.silent()
	case CheatLoop:
		r.loop()
	case CheatAbandon:
		r.abandon()
	case CheatClockConsumer, CheatClockHost, CheatClockBank:
		r.jump()
	case CheatMeddle:
		r.meddle()
	case CheatEarlyKill:
		r.earlyKill()
	case CheatWithheldStop, CheatMandateStop:
		r.withholdStop()
	case CheatForge:
		r.forgeUsage()
	case CheatNoCert, CheatLateCert:
		r.noCert()
	case CheatBankGone:
		r.bankGone()
	}
}

// again does something from time to time, as long as there are faults and demand.
func (r *rogue) again(every func() member.Time, do func()) {
	r.n.w.plan(r.n.w.now+every(), "cheat", r.n.index, func() {
		if r.n.w.calm {
			return
		}
		do()
		r.again(every, do)
	})
}

// oddly draws once for each lease whether it is one of those.
func (r *rogue) oddly(lease wire.ID, p float64) bool {
	odd, known := r.odd[lease]
	if !known {
		odd = r.rnd.chance(p)
		r.odd[lease] = odd
		if odd {
			r.Tried++
		}
	}
	return odd
}
