package step

import (
	"fmt"
	"strings"

	"souk/ledger/audit"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
	"souk/reliability"
)

// A Protocol is a kind of stream between two nodes.
type Protocol string

// The protocols. Hello and join are open to strangers.
const (
	ProtoHello Protocol = "/souk/hello/1"
	ProtoJoin  Protocol = "/souk/join/1"
	ProtoSync  Protocol = "/souk/sync/1"
	ProtoLease Protocol = "/souk/lease/1" // consumer to host
	ProtoBank  Protocol = "/souk/bank/1"  // to an operator
	ProtoLogs  Protocol = "/souk/logs/1"  // a long stream: the pod's output
	ProtoHeld  Protocol = "/souk/held/1"  // to a counterparty: what it holds that the asker has signed

	ProtoWitness Protocol = "/souk/witness/1" // between a host and who bears witness for it
	ProtoAttend  Protocol = "/souk/attend/1"  // to the node that attends leases in the asker's place
)

// An Op is what a frame asks or answers. Numbers are on the wire: append only.
type Op uint8

// The operations of each protocol: objects → answer's objects; bodies are the types below.
const (
	OpOK Op = 1 // the answer, where there is nothing else to say

	OpJoin  Op = 10 // JoinRequest, body JoinBody → charter, policy, [credentials]; body JoinAnswer
	OpRenew Op = 11 // body RenewBody → credential: the bearer asks for its next one

	OpSync Op = 15 // body SyncBody → charter, policy, credentials, revocations, offers; body SyncAnswer

	OpRequest  Op = 20 // Request → Quote
	OpAccept   Op = 21 // Terms, Reservation; body AcceptBody → Cert
	OpGetLease Op = 22 // body LeaseBody → Cert, or NoLease: what became of an Accept
	OpAlive    Op = 23 // Alive; body AliveBody → AliveReply, Usage…, Notice…, Receipt…
	OpVoucher  Op = 24 // Voucher →
	OpCommand  Op = 25 // Command, [Reservation] → body CommandAnswer; from the consumer; or Command, Lodged, from the bank
	OpRaise    Op = 26 // Reservation → : a newer one for a running lease
	OpUsage    Op = 27 // body UsageBody → Usage…, Receipt…: entries that the consumer lacks, and what they rest on
	OpDecline  Op = 28 // body LeaseBody → NoLease: the consumer gives a quote up
	OpMandate  Op = 30 // Mandate; body PanelBody →
	OpWiped    Op = 31 // body LeaseBody → VolumeRecord: the host's word that a lease's volume is removed
	OpFunds    Op = 29 // FundsNotice, [Forfeit] → : from an operator, to its consumer and to the hosts of its leases

	OpReserve  Op = 40 // Reserve, Quote → Reservation
	OpSettle   Op = 41 // Voucher, Usage → SettleReceipt, Reservation as it stands now
	OpFinal    Op = 42 // Final, [Voucher, Usage] → SettleReceipt, Reservation
	OpNoLease  Op = 43 // NoLease → SettleReceipt
	OpClose    Op = 44 // Close, [Voucher] →
	OpBalance  Op = 45 // → body BalanceAnswer
	OpRefresh  Op = 46 // body LeaseBody, [Voucher, Usage]; from the host or consumer of a lease → [SettleReceipt], Reservation, raised as far as funds allow
	OpLower    Op = 47 // Lower → Reservation
	OpReceipt  Op = 48 // body LeaseBody; from the lease's consumer or host → [SettleReceipt], Reservation
	OpPayout   Op = 49 // PayoutRequest → PayoutReceipt: how it stands; asking again is how to find out
	OpTransfer Op = 50 // Transfer → TransferReceipt
	OpClaim    Op = 52 // Terms, Cert, [Mandate], [Voucher], Usage…, Receipt…; body ClaimBody → SettleReceipt, Reservation; body ClaimAnswer
	OpLodge    Op = 53 // Command → Lodged: for a host that does not carry it out
	OpLimit    Op = 51 // [Limit] → body ledger.Ceiling: the asker's limits, after its own has been set

	OpCheckpoint  Op = 60 // → Checkpoint: the newest, of now if anything has happened and a minute has passed
	OpConsistency Op = 61 // body ConsistencyBody → Consistency
	OpEntries     Op = 62 // body EntriesBody → Entry…: of the asker's own account
	OpProve       Op = 63 // body ProveBody → body ProveAnswer
	OpOwed        Op = 64 // body OwedBody → body OwedAnswer: the asker's own account in the sum of all

	OpWatch     Op = 80 // from a host: bear witness for me for an hour →
	OpAsk       Op = 81 // from a witness; body AskBody → Presence
	OpWitnessed Op = 82 // Receipt → : from the witness, at once

	OpMayAttend Op = 85 // → : whether the node would attend leases of the asker's
	OpAttend    Op = 86 // Terms, Cert, Reservation, [Mandate]; body AttendBody → body AttendAnswer: attend this lease of the asker's

	OpHeld Op = 70 // body LeaseBody → of a lease: [Voucher], Usage…; of the zero lease: the asker's [Beat], [Offer]
)

// Bodies of requests and answers: parameters that need no signature.
type (
	// HelloBody goes both ways in /souk/hello/1, with the speaker's credential, if it has one, as the only object.
	HelloBody struct {
		Market  identity.Hash `cbor:"1,keyasint"`
		Policy  uint64        `cbor:"2,keyasint"`
		Now     member.Time   `cbor:"3,keyasint"`
		Version string        `cbor:"4,keyasint"`
		Addrs   []string      `cbor:"5,keyasint"`
	}
	// JoinBody carries the invite's secret to its operator.
	JoinBody struct {
		Secret wire.ID       `cbor:"1,keyasint"`
		Market identity.Hash `cbor:"2,keyasint"`
	}
	// JoinAnswer tells the newcomer where it stands.
	JoinAnswer struct {
		State  JoinState `cbor:"1,keyasint"`
		Reason string    `cbor:"2,keyasint"`
	}
	// RenewBody is empty: the stream's peer is the subject.
	RenewBody struct {
		Serial uint64 `cbor:"1,keyasint"` // of the credential held
	}
	// SyncBody lists what the asker holds: the first 8 bytes of refs.
	SyncBody struct {
		Have []uint64 `cbor:"1,keyasint"`
	}
	// SyncAnswer says whether more would come, and what time it is there.
	SyncAnswer struct {
		More bool        `cbor:"1,keyasint"`
		Now  member.Time `cbor:"2,keyasint"` // the answerer's clock
	}
	// LeaseBody names a lease.
	LeaseBody struct {
		Lease wire.ID `cbor:"1,keyasint"`
	}
	// AcceptBody carries what the terms name by hash: the request's ref says which quote.
	AcceptBody struct {
		Quote identity.Hash `cbor:"1,keyasint"`
	}
	// AliveBody says which usage entries and commands the consumer knows of.
	AliveBody struct {
		UsageSeq uint64        `cbor:"1,keyasint"`
		Minute   member.Minute `cbor:"2,keyasint,omitempty"` // first that no entry known covers
	}
	// PanelBody lists the witnesses that a mandate names by hash.
	PanelBody struct {
		Panel reliability.Panel `cbor:"1,keyasint"`
	}
	// ClaimBody goes with a host's claim: the mandate's witnesses, and the first minute that the receipts beside it do not
	// reach; entries that end later are left for the next claim.
	ClaimBody struct {
		Panel reliability.Panel `cbor:"1,keyasint"`
		Until member.Minute     `cbor:"2,keyasint"`
	}
	// ClaimAnswer says how far the bank has followed the lease's chain: its last entry, the first minute after it, and what is
	// proven so far, vouchers included.
	ClaimAnswer struct {
		Seq    uint64        `cbor:"1,keyasint"`
		Next   member.Minute `cbor:"2,keyasint"`
		Proven int64         `cbor:"3,keyasint"`
	}
	// AttendBody is what a principal has ordered of a lease that another node attends for it. It is totals, and the newest stands.
	AttendBody struct {
		Name      string            `cbor:"1,keyasint"` // that its user gave the pod
		Starts    uint32            `cbor:"2,keyasint"` // that it has ordered so far
		Zero      bool              `cbor:"3,keyasint"` // the last of them without GPUs
		Stop      member.Minute     `cbor:"4,keyasint"` // last minute in which the pod may run, after an order to stop; 0: none stands
		RunUntil  member.Minute     `cbor:"5,keyasint"` // last minute that an earlier mandate pays; 0: none was ended
		KeepUntil member.Minute     `cbor:"6,keyasint"` // last minute of storage; 0: no such order
		Panel     reliability.Panel `cbor:"7,keyasint"` // of the mandate beside it
		Halt      string            `cbor:"8,keyasint"` // why nothing more is to be signed; empty: go on
	}
	// AttendAnswer says how the attendant fares.
	AttendAnswer struct {
		Refused string `cbor:"1,keyasint"` // why it signs nothing more; empty: it signs
	}
	// AskBody is a witness's question.
	AskBody struct {
		Nonce uint64 `cbor:"1,keyasint"`
	}
	// AliveAnswer goes with the reply.
	AliveAnswer struct {
		Command  uint64 `cbor:"1,keyasint"` // highest command carried out
		Pulled   int64  `cbor:"2,keyasint"` // bytes
		PullSize int64  `cbor:"3,keyasint"`
		Detail   string `cbor:"4,keyasint"` // why it failed, for people
	}
	// UsageBody asks for entries from a sequence on.
	UsageBody struct {
		Lease  wire.ID       `cbor:"1,keyasint"`
		From   uint64        `cbor:"2,keyasint"`
		Minute member.Minute `cbor:"3,keyasint,omitempty"` // first that no entry known covers
	}
	// CommandAnswer tells what became of a command.
	CommandAnswer struct {
		Seq    uint64 `cbor:"1,keyasint"`
		LogSeq uint64 `cbor:"2,keyasint"`
	}
	// BalanceAnswer is what the bank knows of the asker's account.
	BalanceAnswer struct {
		Account    identity.Address `cbor:"1,keyasint" json:"account"`
		Deposited  int64            `cbor:"2,keyasint" json:"deposited"`
		Available  int64            `cbor:"3,keyasint" json:"available"`
		Reserved   int64            `cbor:"4,keyasint" json:"reserved"`
		Payable    int64            `cbor:"5,keyasint" json:"payable"`
		Settled    int64            `cbor:"6,keyasint" json:"settled"`
		PaidOut    int64            `cbor:"7,keyasint" json:"paidOut"`
		Burn       int64            `cbor:"8,keyasint" json:"burn"`
		Entries    uint64           `cbor:"9,keyasint" json:"entries"` // of the bank's journal
		Fees       int64            `cbor:"10,keyasint" json:"fees"`
		Paying     int64            `cbor:"11,keyasint,omitempty" json:"paying"`
		ShortSince member.Time      `cbor:"12,keyasint,omitempty" json:"shortSince,omitempty"` // when a funds notice was given that stands
		ForfeitAt  member.Time      `cbor:"13,keyasint,omitempty" json:"forfeitAt,omitempty"`  // when its leases are forfeit
	}
	// ConsistencyBody names two sizes of the bank's journal, the old one first.
	ConsistencyBody struct {
		Old  uint64 `cbor:"1,keyasint"`
		Size uint64 `cbor:"2,keyasint"`
	}
	// EntriesBody asks for the entries of an account after the first so many.
	EntriesBody struct {
		After uint64 `cbor:"1,keyasint"`
	}
	// ProveBody asks for proofs that a journal of a size has entries at these sequences.
	ProveBody struct {
		Size uint64   `cbor:"1,keyasint"`
		Seqs []uint64 `cbor:"2,keyasint"`
	}
	// ProveAnswer has a proof for each of them, in their order.
	ProveAnswer struct {
		Proofs [][]identity.Hash `cbor:"1,keyasint"`
	}
	// OwedBody names the checkpoint that the answer is to be of.
	OwedBody struct {
		Number uint64 `cbor:"1,keyasint"`
	}
	// OwedAnswer is an account in the sum of all accounts.
	OwedAnswer struct {
		Leaf  audit.Leaf   `cbor:"1,keyasint"`
		Place uint64       `cbor:"2,keyasint"`
		Path  []audit.Node `cbor:"3,keyasint"`
	}
)

// ReceiptsReach is how many minutes from the one named in an AliveBody or UsageBody on the receipts in its answer are for.
const ReceiptsReach = 64

// MostEntries is how many entries of an account one answer has, and how many proofs: what a frame holds at their largest.
const MostEntries = 100

// A JoinState is where a newcomer stands.
type JoinState uint8

// The states of joining.
const (
	JoinPending  JoinState = 1
	JoinApproved JoinState = 2
	JoinRejected JoinState = 3
)

// A Refusal is a peer's no. Codes are on the wire: append only.
type Refusal struct {
	Code   RefusalCode `cbor:"1,keyasint"`
	Reason string      `cbor:"2,keyasint"`
}

// Error is the refusal in words.
func (r *Refusal) Error() string { return r.Reason }

// Refuse makes a Refusal.
func Refuse(code RefusalCode, format string, args ...any) *Refusal {
	s := fmt.Sprintf(format, args...)
	if len(s) > 512 {
		s = s[:512]
	}
	return &Refusal{Code: code, Reason: strings.ToValidUTF8(s, "")} // what is cut must still decode
}

// Rests reports whether a refusal says only that the peer decides nothing at this time.
func (r *Refusal) Rests() bool {
	return r != nil && (r.Code == RefuseQuarantine || r.Code == RefuseDisk)
}

// A RefusalCode tells refusals apart.
type RefusalCode uint16

// The codes. Those up to 9 are the network's own.
const (
	RefuseNoCredential RefusalCode = 1
	RefuseRevoked      RefusalCode = 2
	RefuseOtherMarket  RefusalCode = 3
	RefuseClock        RefusalCode = 4
	RefuseBusy         RefusalCode = 5
	RefuseBadHello     RefusalCode = 6

	RefuseBadRequest RefusalCode = 10 // malformed, or objects that do not belong together
	RefuseNotForYou  RefusalCode = 11 // the asker has no right to it
	RefuseUnknown    RefusalCode = 12 // no such lease, reservation, …
	RefuseStale      RefusalCode = 13 // older than what is known
	RefuseInternal   RefusalCode = 14
	RefuseQuarantine RefusalCode = 15 // the node does not know what it has signed, and signs nothing
	RefuseDisk       RefusalCode = 16 // its disk is nearly full

	RefuseInviteUsed    RefusalCode = 20
	RefuseInviteExpired RefusalCode = 21
	RefuseInviteForeign RefusalCode = 22
	RefuseInviteRole    RefusalCode = 23
	RefuseAgreement     RefusalCode = 24

	RefuseNoGPUs      RefusalCode = 30
	RefusePrice       RefusalCode = 31 // below the host's price or floor
	RefuseSpec        RefusalCode = 32 // image, disk or limits that this host does not take
	RefuseCooldown    RefusalCode = 33 // too many abandoned holds
	RefuseExpired     RefusalCode = 34 // the hold is over
	RefuseReservation RefusalCode = 35 // does not cover the lease, or another bank's
	RefuseUnpaid      RefusalCode = 36 // a voucher is due first
	RefuseState       RefusalCode = 37 // the lease is not in a state for it
	RefuseWithdrawn   RefusalCode = 38 // the host takes no new leases

	RefuseFunds   RefusalCode = 50
	RefuseMoney   RefusalCode = 51 // any other no of the bank
	RefuseLimit   RefusalCode = 52
	RefuseVoucher RefusalCode = 53 // does not fit the entry that it names
)
