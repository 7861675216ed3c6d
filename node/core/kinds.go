package core

import (
	"fmt"

	"souk/ledger"
	"souk/ledger/audit"
	"souk/market"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
	"souk/reliability"
)

// kind is how objects of one kind are opened, and how drafts of it are hashed for signing.
type kind struct {
	open   func(wire.Opener, wire.Object) (wire.AnyVerified, error)
	decode func(wire.Object) (wire.Message, error)
}

func of[T wire.Message]() kind {
	return kind{
		open: func(o wire.Opener, obj wire.Object) (wire.AnyVerified, error) { return wire.Open[T](o, obj) },
		decode: func(obj wire.Object) (wire.Message, error) {
			return wire.Decode[T](obj)
		},
	}
}

// kinds are the signed objects that travel between nodes, and those that this node signs.
var kinds = map[wire.Kind]kind{
	wire.KindCharter:         of[member.Charter](),
	wire.KindCredential:      of[member.Credential](),
	wire.KindPolicy:          of[member.Policy](),
	wire.KindRevocation:      of[member.Revocation](),
	wire.KindJoinRequest:     of[member.JoinRequest](),
	wire.KindDeposit:         of[ledger.Deposit](),
	wire.KindReservation:     of[ledger.Reservation](),
	wire.KindReserve:         of[ledger.Reserve](),
	wire.KindVoucher:         of[ledger.Voucher](),
	wire.KindMandate:         of[ledger.Mandate](),
	wire.KindUsage:           of[ledger.Usage](),
	wire.KindFinal:           of[ledger.Final](),
	wire.KindNoLease:         of[ledger.NoLease](),
	wire.KindClose:           of[ledger.Close](),
	wire.KindLower:           of[ledger.Lower](),
	wire.KindSettleReceipt:   of[ledger.SettleReceipt](),
	wire.KindBankEntry:       of[ledger.Entry](),
	wire.KindCheckpoint:      of[audit.Checkpoint](),
	wire.KindConsistency:     of[audit.Consistency](),
	wire.KindPayoutRequest:   of[ledger.PayoutRequest](),
	wire.KindPayoutReceipt:   of[ledger.PayoutReceipt](),
	wire.KindTransfer:        of[ledger.Transfer](),
	wire.KindTransferReceipt: of[ledger.TransferReceipt](),
	wire.KindLimit:           of[ledger.Limit](),
	wire.KindFundsNotice:     of[ledger.FundsNotice](),
	wire.KindForfeit:         of[ledger.Forfeit](),
	wire.KindTerms:           of[market.Terms](),
	wire.KindAmendment:       of[market.Amendment](),
	wire.KindOffer:           of[market.Offer](),
	wire.KindLeaseRequest:    of[market.Request](),
	wire.KindQuote:           of[market.Quote](),
	wire.KindCert:            of[market.Cert](),
	wire.KindLogEntry:        of[market.LogEntry](),
	wire.KindAlive:           of[market.Alive](),
	wire.KindAliveReply:      of[market.AliveReply](),
	wire.KindCommand:         of[market.Command](),
	wire.KindNotice:          of[market.Notice](),
	wire.KindVolumeRecord:    of[market.VolumeRecord](),
	wire.KindBeat:            of[reliability.Beat](),
	wire.KindPresence:        of[reliability.Presence](),
	wire.KindReceipt:         of[reliability.Receipt](),
	wire.KindLodged:          of[market.Lodged](),
}

// Open checks an object of any kind.
func Open(o wire.Opener, obj wire.Object) (wire.AnyVerified, error) {
	k, ok := kinds[obj.Kind]
	if !ok {
		return nil, fmt.Errorf("%w: %d", wire.ErrUnknownKind, obj.Kind)
	}
	if obj.Kind == wire.KindCharter {
		return member.OpenCharter(o.Verifier, obj)
	}
	return k.open(o, obj)
}

// OpenAll checks the objects of one frame. A frame that brings the charter of the very market that the opener names, as the
// answer to a newcomer does, has its other objects checked under that charter: an invite knows the market's id alone, and
// not yet what its contracts are signed under.
func OpenAll(o wire.Opener, objects []wire.Object) ([]wire.AnyVerified, error) {
	out := make([]wire.AnyVerified, 0, len(objects))
	for i, obj := range objects {
		v, err := Open(o, obj)
		if err != nil {
			return nil, fmt.Errorf("object %d: %w", i, err)
		}
		if c, ok := v.(wire.Verified[member.Charter]); ok && c.Value().Market().ID == o.Market.ID {
			o.Market = c.Value().Market()
		}
		out = append(out, v)
	}
	return out, nil
}

// Sign completes a draft. It is a bug to ask for a draft that names another signer.
func Sign(m wire.Market, s identity.Signer, obj wire.Object) (wire.Object, error) {
	if !obj.IsDraft() {
		return obj, nil
	}
	k, ok := kinds[obj.Kind]
	if !ok {
		return obj, fmt.Errorf("%w: %d", wire.ErrUnknownKind, obj.Kind)
	}
	msg, err := k.decode(obj)
	if err != nil {
		return obj, err
	}
	if msg.Signer() != s.Address() {
		return obj, fmt.Errorf("core: a draft of a %v for %v cannot be signed by %v", obj.Kind, msg.Signer(), s.Address())
	}
	if c, ok := msg.(member.Charter); ok {
		m = c.Market()
	}
	obj.Sig, err = s.Sign(m.Digest(msg, obj.Payload))
	return obj, err
}

// Decode reads the message of an object that this node holds, of any kind.
func Decode(obj wire.Object) (wire.Message, error) {
	k, ok := kinds[obj.Kind]
	if !ok {
		return nil, fmt.Errorf("%w: %d", wire.ErrUnknownKind, obj.Kind)
	}
	return k.decode(obj)
}
