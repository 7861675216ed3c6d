package core

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"souk/ledger"
	"souk/node/core/consumer"
	"souk/node/core/host"
	"souk/node/core/observer"
	"souk/node/core/operator"
	"souk/node/core/step"
	"souk/node/core/table"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// A quarantine is the row of a node whose records are older than what it may have signed: they are of a backup, or a part
// of its journal is gone. As long as the row is there the roles are not stepped, and nothing is signed. The node asks those
// who hold what it signed. When all have answered, or the user has given up those who did not, it goes on, behind every
// place that can be taken: what it numbers itself jumps, and a chain between two parties that was open gets no further entry.
type quarantine struct {
	Why   string      `cbor:"1,keyasint"`
	At    member.Time `cbor:"2,keyasint"` // of the records; 0: not known
	Asked bool        `cbor:"3,keyasint"` // Asks is made
	Asks  []ask       `cbor:"4,keyasint"`
	Seen  host.Seen   `cbor:"5,keyasint"`
	// Of a bank: what others hold of its signatures and its books have not.
	Behind []string `cbor:"6,keyasint"`
}

// An ask is something that another one holds.
type ask struct {
	What  what             `cbor:"1,keyasint"`
	Who   identity.Address `cbor:"2,keyasint"` // zero: any neighbour
	Lease wire.ID          `cbor:"3,keyasint"`
	Told  bool             `cbor:"4,keyasint"`
	Place uint64           `cbor:"5,keyasint"` // the highest that it holds
}

type what uint8

const (
	whatOwn     what = 1 // this host's beats and offers, and by them its lease log
	whatUsage   what = 2 // a lease's usage chain, and the voucher for it
	whatVoucher what = 3 // this consumer's voucher for a lease
	whatReceipt what = 4 // what the bank was shown of it
	whatBank    what = 5 // a bank's own books: it has no member who could be asked
	whatBooks   what = 6 // what a member holds of this bank's signatures
)

// String is a wish to be told, as status shows it.
func (a ask) String() string {
	who := a.Who.Short()
	switch a.What {
	case whatOwn:
		return "any neighbour: this host's last beat and offer"
	case whatUsage:
		return "consumer " + who + ": usage entries and voucher of lease " + a.Lease.Short()
	case whatVoucher:
		return "host " + who + ": the last voucher of lease " + a.Lease.Short()
	case whatReceipt:
		return "bank " + who + ": the last receipt of lease " + a.Lease.Short()
	}
	if a.What == whatBooks {
		return "member " + who + ": what it holds of this bank's reservations, receipts and checkpoints"
	}
	return "your word that these are the bank's newest books: no member is known who could be asked"
}

// QuarantineRow is the row that puts the node of a store into quarantine: why, and of when its records are.
func QuarantineRow(why string, at member.Time) step.Row {
	return step.Row{Key: table.Key(table.Node, []byte("quarantine")), Value: wire.Marshal(quarantine{Why: why, At: at})}
}

// Commands and questions of any node.
type (
	// AcceptLoss ends a quarantine without what is still awaited. Answer: Accepted.
	AcceptLoss struct{}
	// Health asks whether the node may sign. Answer: Condition.
	Health struct{}
)

// Accepted says what was given up.
type Accepted struct {
	Lost []string `json:"lost"`
}

// A Condition is what keeps a node from signing, or from taking anything new.
type Condition struct {
	Quarantine string      `json:"quarantine,omitempty"` // why; empty: none
	Since      member.Time `json:"recordsOf,omitempty"`
	Awaited    []string    `json:"awaited,omitempty"` // from whom what
	Missing    []string    `json:"missing,omitempty"` // of a bank: what others hold of its signatures and its books have not
	Disk       string      `json:"disk,omitempty"`    // low or full; empty: there is room
	Room       string      `json:"room,omitempty"`
	Hint       string      `json:"hint,omitempty"`
}

// Signs reports whether nothing keeps the node from signing.
func (c Condition) Signs() bool { return c.Quarantine == "" && c.Disk != step.RoomFull.String() }

// What to do, said in every refusal.
const (
	hintQuarantine = "'souk status' says what is awaited; it ends by itself, or with 'souk ledger accept-loss'"
	hintBank       = "put a backup of newer books back: 'souk ledger restore --force FILE'"
	hintDisk       = "make room on the disk of the home; it goes on by itself"
)

// resting reports whether the roles are not to be stepped.
func (n *Node) resting() bool { return n.quarantine.IsSet() || n.room.Level == step.RoomFull }

func (n *Node) condition() Condition {
	var c Condition
	if n.quarantine.IsSet() {
		q := n.quarantine.Get()
		c.Quarantine, c.Since, c.Hint = q.Why, q.At, hintQuarantine
		for _, a := range q.Asks {
			if !a.Told {
				c.Awaited = append(c.Awaited, a.String())
			}
		}
		if c.Missing = q.Behind; len(c.Missing) > 0 {
			c.Hint = hintBank
		}
	}
	if l := n.room.Level; l != step.RoomAmple {
		c.Disk, c.Room = l.String(), n.room.String()
		if c.Hint == "" {
			c.Hint = hintDisk
		}
	}
	return c
}

// refusal is what a peer is told that asks for something while the roles rest.
func (n *Node) refusal() *step.Refusal {
	if n.quarantine.IsSet() {
		return step.Refuse(step.RefuseQuarantine, "this node's records are incomplete (%s); it signs nothing until it knows what it has signed: ask again later", n.brief())
	}
	return step.Refuse(step.RefuseDisk, "this node's disk is %v; it goes on when there is room: ask again later", n.room.Level)
}

// brief is why there is a quarantine, cut to what a refusal may say.
func (n *Node) brief() string {
	why := n.quarantine.Get().Why
	if len(why) > 120 {
		why = strings.ToValidUTF8(why[:117], "") + "..."
	}
	return why
}

// problem is what the user is told.
func (n *Node) problem() *step.Problem {
	c := n.condition()
	if c.Quarantine != "" {
		text := "this node is in quarantine and signs nothing: " + c.Quarantine
		if len(c.Awaited) > 0 {
			text += "; it waits for " + strings.Join(c.Awaited[:min(3, len(c.Awaited))], "; ")
		}
		if len(c.Missing) > 0 {
			text += "; its books lack " + strings.Join(c.Missing[:min(3, len(c.Missing))], "; ")
		}
		return step.Fail(step.ProblemQuarantine, c.Hint, "%s", text)
	}
	return step.Fail(step.ProblemDisk, c.Hint, "the disk is %s (%s)", c.Disk, c.Room)
}

// reads reports whether a command only looks at what is there: the roles answer such ones at rest too.
func reads(cmd any) bool {
	switch cmd.(type) {
	case consumer.List, consumer.Price, consumer.Show, consumer.Resolve, consumer.Papers, host.OnSale, host.Earnings, operator.Height:
		return true
	}
	return false
}

// takesOn reports whether an input is new work, which a disk that is nearly full is not to be burdened with.
func takesOn(in step.Input) bool {
	switch in := in.(type) {
	case step.Request:
		return in.Op == step.OpRequest || in.Op == step.OpReserve || in.Op == step.OpJoin || in.Op == step.OpMayAttend
	case step.Local:
		switch in.Cmd.(type) {
		case consumer.Run, observer.Found, observer.Join, host.Advertise:
			return true
		}
	}
	return false
}

// takeRoom notes how much room the disk has. Where nothing was signed for want of it and there is room again, the roles begin
// anew with what is stored, as after a restart.
func (n *Node) takeRoom(ctx *step.Context, r step.Room) {
	before := n.room.Level
	n.room = r
	switch {
	case r.Level == before:
	case r.Level == step.RoomFull:
		ctx.Notify("disk.full", wire.ID{}, fmt.Sprintf("the disk is full (%v): nothing is signed until there is room", r))
	case before == step.RoomFull:
		ctx.Notify("disk.low", wire.ID{}, fmt.Sprintf("there is room again (%v)", r))
		if !n.quarantine.IsSet() {
			n.renewRoles(ctx)
		}
	case r.Level == step.RoomLow:
		ctx.Notify("disk.low", wire.ID{}, fmt.Sprintf("the disk is nearly full (%v): nothing new is taken, what is under way goes on", r))
	default:
		ctx.Notify("disk.ample", wire.ID{}, fmt.Sprintf("there is room again (%v)", r))
	}
}

// begin makes the list of what is to be asked, once, of the records that are there.
func (q *quarantine) begin(n *Node) {
	if q.Asked {
		return
	}
	q.Asked = true
	c, _ := n.observer.Charter()
	if c.Operates(n.self) && !q.askMembers(n) {
		q.Asks = append(q.Asks, ask{What: whatBank})
	}
	if n.roles.Has(member.RoleHost) {
		q.Asks = append(q.Asks, ask{What: whatOwn})
	}
	for _, d := range n.host.Debts() {
		q.Asks = append(q.Asks, ask{What: whatUsage, Who: d.Who, Lease: d.Lease})
	}
	for _, d := range n.consumer.Debts() {
		q.Asks = append(q.Asks, ask{What: whatVoucher, Who: d.Host, Lease: d.Lease}, ask{What: whatReceipt, Who: d.Bank, Lease: d.Lease})
	}
}

// askMembers adds the members that a bank has yet to ask: also those whom it has admitted since its books were copied, and hears of
// only now. It reports whether any member is known.
func (q *quarantine) askMembers(n *Node) (known bool) {
	for _, m := range n.observer.Members() {
		if m == n.self {
			continue
		}
		known = true
		if !slices.ContainsFunc(q.Asks, func(a ask) bool { return a.What == whatBooks && a.Who == m }) {
			q.Asks = append(q.Asks, ask{What: whatBooks, Who: m})
		}
	}
	return known
}

// askEvery is how often somebody is asked who has not answered.
const askEvery = 10 * member.Second

// An errand is a question that is out, or the time at which the next one is due.
type errand struct {
	out  bool
	next member.Time
}

// tickQuarantine asks on, and goes on when everything is told.
func (n *Node) tickQuarantine(ctx *step.Context) member.Time {
	q := n.quarantine.Get()
	if !n.observer.Founded() {
		return 0
	}
	if !q.Asked {
		q.begin(n)
		n.quarantine.Touch()
		ctx.Notify("quarantine", wire.ID{}, n.problem().Text)
		n.errands = nil
	}
	if c, _ := n.observer.Charter(); c.Operates(n.self) {
		if before := len(q.Asks); q.askMembers(n) && len(q.Asks) > before {
			n.quarantine.Touch()
		}
	}
	n.errands = append(n.errands, make([]errand, len(q.Asks)-len(n.errands))...)
	if len(q.Behind) == 0 && !slices.ContainsFunc(q.Asks, func(a ask) bool { return !a.Told }) {
		n.leaveQuarantine(ctx)
		return ctx.Now + 1
	}
	wake := member.Time(0)
	for i := range q.Asks {
		e := &n.errands[i]
		if q.Asks[i].Told || q.Asks[i].What == whatBank || e.out {
			continue
		}
		if ctx.Now >= e.next {
			n.sendErrand(ctx, i)
		}
		if wake == 0 || e.next < wake {
			wake = e.next
		}
	}
	return wake
}

func (n *Node) sendErrand(ctx *step.Context, i int) {
	a, e := &n.quarantine.Get().Asks[i], &n.errands[i]
	e.next = ctx.Now + askEvery + member.Time(i/4)*member.Second // of a thousand members a few are away at any time
	to, proto, op := a.Who, step.ProtoHeld, step.OpHeld
	if a.What == whatReceipt {
		proto, op = step.ProtoBank, step.OpReceipt
	}
	if to.IsZero() {
		near := n.observer.Neighbours()
		if len(near) == 0 {
			return
		}
		to = near[int(uint64(ctx.Now/askEvery)%uint64(len(near)))]
	}
	e.out = true
	n.asked[ctx.Send(to, proto, op, step.LeaseBody{Lease: a.Lease})] = i
}

// answered takes what one of those asked holds. Who knows of no such lease holds nothing.
func (n *Node) answered(ctx *step.Context, r step.Response) bool {
	i, ok := n.asked[r.ID]
	if !ok {
		return false
	}
	delete(n.asked, r.ID)
	if !n.quarantine.IsSet() {
		return true
	}
	q := n.quarantine.Get()
	a := &q.Asks[i]
	n.errands[i].out = false
	unknown := r.Err != nil && r.Err.Refusal != nil && r.Err.Refusal.Code == step.RefuseUnknown && a.What != whatBooks
	if r.Err != nil && !unknown {
		return true
	}
	n.quarantine.Touch()
	a.Told = true
	switch a.What {
	case whatOwn:
		q.Seen.See(ctx, r.Objects)
		a.Place = q.Seen.Log.Seq
	case whatBooks:
		for _, v := range r.Objects {
			switch v.(type) {
			case wire.Verified[member.Policy], wire.Verified[member.Credential], wire.Verified[member.Revocation]:
				n.observer.Gossip(ctx, step.Gossip{Msg: v})
			}
		}
		first := len(q.Behind) == 0
		if q.lacks(n.operator.Behind(ctx, r.Objects)); first && len(q.Behind) > 0 {
			ctx.Notify("quarantine.behind", wire.ID{}, n.problem().Text)
		}
	case whatUsage:
		a.Place = n.host.Regain(ctx, a.Lease, r.Objects)
	case whatVoucher, whatReceipt:
		a.Place = n.consumer.Regain(ctx, a.Lease, r.Objects)
	}
	return true
}

// lackMost is how much of what a bank's books lack is kept, to be shown.
const lackMost = 64

func (q *quarantine) lacks(list []string) {
	for _, text := range list {
		if len(q.Behind) < lackMost && !slices.Contains(q.Behind, text) {
			q.Behind = append(q.Behind, text)
		}
	}
}

// heldMost is how many objects a bank is given of what it has signed.
const heldMost = 256

// heldOf is what this node holds of a bank's signatures: all that is of open leases, then the receipts of the highest entries, for
// whatever a bank has lost is of those.
func (n *Node) heldOf(bank identity.Address) []wire.Object {
	open, past := n.host.HeldOf(bank)
	mine, old := n.consumer.HeldOf(bank)
	open = slices.Concat(n.observer.Acts(bank), n.observer.Checkpoints(bank), open, mine)
	type dated struct {
		object wire.Object
		entry  uint64
	}
	var rest []dated
	for _, o := range append(past, old...) {
		rest = append(rest, dated{o, entryOf(o)})
	}
	slices.SortStableFunc(rest, func(a, b dated) int { return cmp.Compare(b.entry, a.entry) })
	for _, d := range rest {
		open = append(open, d.object)
	}
	return open[:min(len(open), heldMost)]
}

// entryOf is the entry of a bank's journal that one of its receipts names.
func entryOf(o wire.Object) uint64 {
	msg, err := Decode(o)
	if err != nil {
		panic("core: an object that this node kept does not decode: " + err.Error())
	}
	switch m := msg.(type) {
	case ledger.SettleReceipt:
		return m.Entry
	case ledger.PayoutReceipt:
		return m.Entry
	case ledger.TransferReceipt:
		return m.Entry
	}
	return 0
}

// held answers one that has lost its records, or any member that asks.
func (n *Node) held(ctx *step.Context, r step.Request) {
	b, err := step.Body[step.LeaseBody](r.Body)
	switch {
	case err != nil || r.Op != step.OpHeld:
		ctx.Refuse(r.ID, step.Refuse(step.RefuseBadRequest, "which lease?"))
		return
	case b.Lease.IsZero():
		objects := n.observer.Held(r.Peer)
		if c, _ := n.observer.Charter(); c.Operates(r.Peer) {
			objects = append(objects, n.heldOf(r.Peer)...)
		}
		ctx.Reply(r.ID, step.OpOK, nil, objects...)
		return
	}
	if objects, ok := n.host.Held(r.Peer, b.Lease); ok {
		ctx.Reply(r.ID, step.OpOK, nil, objects...)
		return
	}
	objects, more, ok := n.consumer.Held(r.Peer, b.Lease)
	if !ok {
		ctx.Refuse(r.ID, step.Refuse(step.RefuseUnknown, "no lease %s between us", b.Lease.Short()))
		return
	}
	ctx.Reply(r.ID, step.OpOK, nil, objects...)
	ctx.Out.Replies[len(ctx.Out.Replies)-1].Append = []step.Span{more}
}

// acceptLoss goes on without those who have not answered. A bank does so only as long as nobody has shown that its books are old: they
// cannot be made up, and its journal cannot go on from an entry that has another successor.
func (n *Node) acceptLoss(ctx *step.Context, id uint64) {
	if !n.quarantine.IsSet() {
		ctx.Answer(id, nil, step.Fail(step.ProblemConflict, "", "this node is not in quarantine"))
		return
	}
	q := n.quarantine.Get()
	v := Accepted{Lost: []string{}}
	if len(q.Behind) > 0 {
		ctx.Answer(id, nil, step.Fail(step.ProblemQuarantine, hintBank, "this bank's books are older than what it has signed, and cannot go on from where they end; they lack: %s",
			strings.Join(q.Behind, "; ")))
		return
	}
	for _, a := range q.Asks {
		if !a.Told {
			v.Lost = append(v.Lost, a.String())
		}
	}
	if !q.Asked || n.room.Level == step.RoomFull {
		ctx.Answer(id, nil, n.problem())
		return
	}
	n.leaveQuarantine(ctx)
	ctx.Answer(id, v, nil)
}

// leaveQuarantine goes on, behind every place that can be taken.
func (n *Node) leaveQuarantine(ctx *step.Context) {
	if n.room.Level == step.RoomFull {
		return
	}
	q := n.quarantine.Get()
	told, lost := map[wire.ID]bool{}, 0
	for _, a := range q.Asks {
		if !a.Told {
			lost++
		} else if a.What == whatUsage {
			told[a.Lease] = true
		}
	}
	if n.roles.Has(member.RoleHost) || len(n.host.Debts()) > 0 {
		n.host.Forsake(ctx, q.Seen, told)
	}
	n.consumer.Forsake(ctx)
	n.operator.Forsake(ctx)
	n.quarantine.Clear()
	n.errands = nil
	text := "everything awaited is told"
	if lost > 0 {
		text = fmt.Sprintf("%d answers are given up", lost)
	}
	ctx.Notify("quarantine.over", wire.ID{}, text+"; this node signs again. The leases that were open end, and what it numbers goes on behind a gap")
	n.bootRoles(ctx)
	n.host.EndLost(ctx)
}
