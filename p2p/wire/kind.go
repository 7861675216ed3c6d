package wire

// A Kind says what a signed object is. Numbers and domains are part of what is signed: append only; a changed layout
// is a new kind with a new version.
type Kind uint16

// The kinds of signed objects. Those up to 31 are money and contracts, signed as EIP-712 typed data; the others are
// signed over their domain, the market and their payload.
const (
	KindCharter     Kind = 1
	KindCredential  Kind = 2
	KindDeposit     Kind = 3
	KindReservation Kind = 4
	KindTerms       Kind = 5
	KindAmendment   Kind = 6
	KindVoucher     Kind = 7
	KindMandate     Kind = 8

	KindPolicy          Kind = 32
	KindRevocation      Kind = 33
	KindJoinRequest     Kind = 34
	KindHello           Kind = 35
	KindDelegation      Kind = 36
	KindEpoch           Kind = 37
	KindOffer           Kind = 40
	KindBid             Kind = 41
	KindBeat            Kind = 42
	KindRow             Kind = 43
	KindReceipt         Kind = 44
	KindLeaseRequest    Kind = 50
	KindQuote           Kind = 51
	KindCert            Kind = 52
	KindLogEntry        Kind = 53
	KindPlacedBid       Kind = 54
	KindBidAck          Kind = 55
	KindClear           Kind = 56
	KindNotice          Kind = 57
	KindNoLease         Kind = 58
	KindRefusal         Kind = 59
	KindUsage           Kind = 60
	KindAlive           Kind = 61
	KindAliveReply      Kind = 62
	KindCommand         Kind = 63
	KindFinal           Kind = 64
	KindClose           Kind = 65
	KindLower           Kind = 66
	KindFundsNotice     Kind = 67
	KindForfeit         Kind = 68
	KindVolumeRecord    Kind = 69
	KindPriceProposal   Kind = 70
	KindReserve         Kind = 71
	KindSettleReceipt   Kind = 72
	KindPayoutReceipt   Kind = 73
	KindCheckpoint      Kind = 74
	KindBankEntry       Kind = 75
	KindPayoutRequest   Kind = 76
	KindTransfer        Kind = 77
	KindTransferReceipt Kind = 78
	KindLimit           Kind = 79
	KindConsistency     Kind = 80
	KindPresence        Kind = 81
	KindLodged          Kind = 82
)

// kindInfo is one row of the table of kinds.
type kindInfo struct {
	name  string
	limit int // bytes of payload
}

// firstPlain is the first kind that is not EIP-712 typed data.
const firstPlain Kind = 32

var kinds = [...]kindInfo{
	KindCharter:         {"charter", 4096},
	KindCredential:      {"credential", 2048},
	KindDeposit:         {"deposit", 1024},
	KindReservation:     {"reservation", 1024},
	KindTerms:           {"terms", 4096},
	KindAmendment:       {"amendment", 8192},
	KindVoucher:         {"voucher", 512},
	KindMandate:         {"mandate", 1024},
	KindPolicy:          {"policy", 16384},
	KindRevocation:      {"revocation", 1024},
	KindJoinRequest:     {"join", 32768},
	KindHello:           {"hello", 4096},
	KindDelegation:      {"delegation", 1024},
	KindEpoch:           {"epoch", 1024},
	KindOffer:           {"offer", 12288},
	KindBid:             {"bid", 4096},
	KindBeat:            {"beat", 1024},
	KindRow:             {"row", 12288},
	KindReceipt:         {"receipt", 1024},
	KindLeaseRequest:    {"lease-request", 65536},
	KindQuote:           {"quote", 8192},
	KindCert:            {"cert", 1024},
	KindLogEntry:        {"log", 8192},
	KindPlacedBid:       {"placed-bid", 2048},
	KindBidAck:          {"bid-ack", 1024},
	KindClear:           {"clear", 8192},
	KindNotice:          {"notice", 1024},
	KindNoLease:         {"no-lease", 1024},
	KindRefusal:         {"refusal", 1024},
	KindUsage:           {"usage", 2048},
	KindAlive:           {"alive", 512},
	KindAliveReply:      {"alive-reply", 512},
	KindCommand:         {"command", 1024},
	KindFinal:           {"final", 1024},
	KindClose:           {"close", 1024},
	KindLower:           {"lower", 1024},
	KindFundsNotice:     {"funds-notice", 1024},
	KindForfeit:         {"forfeit", 1024},
	KindVolumeRecord:    {"volume-record", 1024},
	KindPriceProposal:   {"price-proposal", 1024},
	KindReserve:         {"reserve", 1024},
	KindSettleReceipt:   {"settle-receipt", 1024},
	KindPayoutReceipt:   {"payout-receipt", 1024},
	KindCheckpoint:      {"checkpoint", 2048},
	KindBankEntry:       {"bank-entry", 2048},
	KindPayoutRequest:   {"payout-request", 1024},
	KindTransfer:        {"transfer", 1024},
	KindTransferReceipt: {"transfer-receipt", 1024},
	KindLimit:           {"limit", 1024},
	KindConsistency:     {"consistency", 4096},
	KindPresence:        {"presence", 512},
	KindLodged:          {"lodged", 512},
}

func (k Kind) info() kindInfo {
	if int(k) < len(kinds) {
		return kinds[k]
	}
	return kindInfo{}
}

// String is the kind's name.
func (k Kind) String() string {
	if name := k.info().name; name != "" {
		return name
	}
	return "unknown"
}

// Domain is what separates signatures of this kind from all others, as in "souk/offer/1".
func (k Kind) Domain() string { return string(k.appendDomain(nil)) }

func (k Kind) appendDomain(b []byte) []byte {
	return append(append(append(b, "souk/"...), k.String()...), "/1"...)
}

// Limit is the most bytes a payload of this kind may have; 0 for an unknown kind.
func (k Kind) Limit() int { return k.info().limit }

// Typed reports whether the kind is signed as EIP-712 typed data.
func (k Kind) Typed() bool { return k < firstPlain && k.info().limit > 0 }
