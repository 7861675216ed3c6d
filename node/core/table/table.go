// Package table lays out the keys of everything that a node stores.
//
// A key is one table byte and then the fields of that table, of fixed width and big-endian, so that the order of the
// bytes is the order of the numbers, and the first fields of a key are a prefix that finds all rows below them. Only the
// last field of a table may be free in length (a name, a chain).
//
//	byte  table           fields                   kind
//	0x00  meta            name                     store
//	0x01  guard           chain                    store
//	0x10  charter         market 32                state
//	0x11  policy          number 8                 state
//	0x12  credential      subject 20               state
//	0x13  revocation      operator 20, number 8    state
//	0x14  invite          hash of the secret 32    state
//	0x15  applicant       address 20               state
//	0x20  offer           host 20                  replica
//	0x21  beat            host 20                  replica
//	0x22  minutes         host 20, hour 8          replica
//	0x23  fill            host 20, sequence 8      replica
//	0x30  host-lease      lease 16                 state
//	0x31  host-hold       lease 16                 state
//	0x32  lease-log       host 20, sequence 8      log
//	0x33  usage           lease 16, sequence 8     log
//	0x34  host-spec       lease 16                 state
//	0x35  receipt         witness 20, minute 8     state
//	0x36  testimony       witness 20, minute 8     log
//	0x37  host-mandate    lease 16                 state
//	0x40  consumer-lease  lease 16                 state
//	0x41  order           bid 16                   state
//	0x42  consumer-usage  lease 16, sequence 8     log
//	0x43  voucher         lease 16                 state
//	0x44  payment         id 16                    state
//	0x45  mandate         lease 16                 state
//	0x46  lease-receipt   lease 16, minute 8, witness 20  log
//	0x50  account         address 20               state
//	0x51  reservation     lease 16                 state
//	0x52  bank-entry      number 8                 log
//	0x53  deposit-ref     hash 32                  state
//	0x54  payout          id 16                    state
//	0x55  transfer        id 16                    state
//	0x56  shortage        address 20               state
//	0x57  lodged          lease 16                 state
//	0x5a  bank-tree       number 8                 state
//	0x5b  account-entry   address 20, number 8     log
//	0x5c  liability       address 20               state
//	0x5d  checkpoint      operator 20              state
//	0x5e  evidence        operator 20              state
//	0x5f  spending        address 20               state
//	0x60  event           number 8                 log
//	0x70  config          name                     state
//	0x71  node            name                     state
//
// State is loaded into the core when the node starts; a log is only appended to, and read on demand. A replica is state
// that others publish again and again: it is loaded too, but it is not worth a place in the journal, and after a crash or
// a rebuilding its newest rows may be missing. Everything else is journaled. The store's own tables hold its format, its
// position in the journal and the signing guard; nobody else writes them.
//
// A table byte is never given a second meaning. A new layout of a table is a new byte.
package table

import (
	"encoding/binary"
	"fmt"
	"strconv"
)

// A Table is the first byte of a key.
type Table byte

// The tables; the package comment tells their fields.
const (
	Meta  Table = 0x00
	Guard Table = 0x01

	Charter    Table = 0x10
	Policy     Table = 0x11
	Credential Table = 0x12
	Revocation Table = 0x13
	Invite     Table = 0x14
	Applicant  Table = 0x15

	Offer   Table = 0x20
	Beat    Table = 0x21
	Minutes Table = 0x22
	Fill    Table = 0x23

	HostLease   Table = 0x30
	HostHold    Table = 0x31
	LeaseLog    Table = 0x32
	Usage       Table = 0x33
	HostSpec    Table = 0x34
	Receipt     Table = 0x35
	Testimony   Table = 0x36
	HostMandate Table = 0x37

	ConsumerLease Table = 0x40
	Order         Table = 0x41
	ConsumerUsage Table = 0x42
	Voucher       Table = 0x43
	Payment       Table = 0x44
	Mandate       Table = 0x45
	LeaseReceipt  Table = 0x46

	Account     Table = 0x50
	Reservation Table = 0x51
	BankEntry   Table = 0x52
	DepositRef  Table = 0x53
	Payout      Table = 0x54
	Transfer    Table = 0x55
	Shortage    Table = 0x56
	Lodged      Table = 0x57

	BankTree     Table = 0x5a
	AccountEntry Table = 0x5b
	Liability    Table = 0x5c
	Checkpoint   Table = 0x5d
	Evidence     Table = 0x5e

	Spending Table = 0x5f
	Event    Table = 0x60

	Config Table = 0x70
	Node   Table = 0x71
)

// A Kind says who reads a table, and when.
type Kind byte

// The kinds of table.
const (
	Own     Kind = iota // the store's: no one else writes it
	State               // loaded into the core when the node starts
	Log                 // appended to, read on demand
	Replica             // as State, but others will send it again
)

// String names the kind.
func (k Kind) String() string {
	switch k {
	case Own:
		return "store"
	case State:
		return "state"
	case Log:
		return "log"
	case Replica:
		return "replica"
	}
	return "kind " + strconv.Itoa(int(k))
}

// Widths of fields, in bytes.
const (
	free    = 0 // any length; only as the last field
	number  = 8
	id      = 16
	address = 20
	hash    = 32
)

// info is one line of the layout.
type info struct {
	name   string
	kind   Kind
	fields []int
}

var layout = map[Table]info{
	Meta:          {name: "meta", kind: Own, fields: []int{free}},
	Guard:         {name: "guard", kind: Own, fields: []int{free}},
	Charter:       {name: "charter", kind: State, fields: []int{hash}},
	Policy:        {name: "policy", kind: State, fields: []int{number}},
	Credential:    {name: "credential", kind: State, fields: []int{address}},
	Revocation:    {name: "revocation", kind: State, fields: []int{address, number}},
	Invite:        {name: "invite", kind: State, fields: []int{hash}},
	Applicant:     {name: "applicant", kind: State, fields: []int{address}},
	Offer:         {name: "offer", kind: Replica, fields: []int{address}},
	Beat:          {name: "beat", kind: Replica, fields: []int{address}},
	Minutes:       {name: "minutes", kind: Replica, fields: []int{address, number}},
	Fill:          {name: "fill", kind: Replica, fields: []int{address, number}},
	HostLease:     {name: "host-lease", kind: State, fields: []int{id}},
	HostHold:      {name: "host-hold", kind: State, fields: []int{id}},
	LeaseLog:      {name: "lease-log", kind: Log, fields: []int{address, number}},
	Usage:         {name: "usage", kind: Log, fields: []int{id, number}},
	ConsumerLease: {name: "consumer-lease", kind: State, fields: []int{id}},
	Order:         {name: "order", kind: State, fields: []int{id}},
	ConsumerUsage: {name: "consumer-usage", kind: Log, fields: []int{id, number}},
	Voucher:       {name: "voucher", kind: State, fields: []int{id}},
	Account:       {name: "account", kind: State, fields: []int{address}},
	Reservation:   {name: "reservation", kind: State, fields: []int{id}},
	BankEntry:     {name: "bank-entry", kind: Log, fields: []int{number}},
	DepositRef:    {name: "deposit-ref", kind: State, fields: []int{hash}},
	HostSpec:      {name: "host-spec", kind: State, fields: []int{id}},
	Receipt:       {name: "receipt", kind: State, fields: []int{address, number}},
	Testimony:     {name: "testimony", kind: Log, fields: []int{address, number}},
	HostMandate:   {name: "host-mandate", kind: State, fields: []int{id}},
	Mandate:       {name: "mandate", kind: State, fields: []int{id}},
	LeaseReceipt:  {name: "lease-receipt", kind: Log, fields: []int{id, number, address}},
	Lodged:        {name: "lodged", kind: State, fields: []int{id}},
	Payout:        {name: "payout", kind: State, fields: []int{id}},
	Transfer:      {name: "transfer", kind: State, fields: []int{id}},
	Shortage:      {name: "shortage", kind: State, fields: []int{address}},
	Payment:       {name: "payment", kind: State, fields: []int{id}},
	BankTree:      {name: "bank-tree", kind: State, fields: []int{number}},
	AccountEntry:  {name: "account-entry", kind: Log, fields: []int{address, number}},
	Liability:     {name: "liability", kind: State, fields: []int{address}},
	Checkpoint:    {name: "checkpoint", kind: State, fields: []int{address}},
	Evidence:      {name: "evidence", kind: State, fields: []int{address}},
	Spending:      {name: "spending", kind: State, fields: []int{address}},
	Event:         {name: "event", kind: Log, fields: []int{number}},
	Config:        {name: "config", kind: State, fields: []int{free}},
	Node:          {name: "node", kind: State, fields: []int{free}},
}

// All lists every table in the order of its byte.
func All() []Table {
	var all []Table
	for b := 0; b <= 0xff; b++ {
		if t := Table(b); t.Known() {
			all = append(all, t)
		}
	}
	return all
}

// Known reports whether the layout has this table.
func (t Table) Known() bool { _, ok := layout[t]; return ok }

// String is the table's name.
func (t Table) String() string {
	if in, ok := layout[t]; ok {
		return in.name
	}
	return fmt.Sprintf("table 0x%02x", byte(t))
}

// Kind says who reads the table. An unknown table belongs to the store.
func (t Table) Kind() Kind { return layout[t].kind }

// Of is the table of a key. It fails for an empty key and for a byte that is no table.
func Of(key []byte) (Table, error) {
	if len(key) == 0 {
		return 0, fmt.Errorf("table: empty key")
	}
	t := Table(key[0])
	if !t.Known() {
		return 0, fmt.Errorf("table: key %x begins with no table of ours", key)
	}
	return t, nil
}

// Check tells whether a key is complete: a known table, all its fields, nothing after them.
func Check(key []byte) error {
	t, err := Of(key)
	if err != nil {
		return err
	}
	want, open := 1, false
	for _, width := range layout[t].fields {
		want += width
		open = open || width == free
	}
	switch {
	case open && len(key) <= want:
		return fmt.Errorf("table: key %x of table %s lacks its last field", key, t)
	case !open && len(key) != want:
		return fmt.Errorf("table: key %x of table %s has %d bytes, want %d", key, t, len(key), want)
	}
	return nil
}

// Key builds a key of table t, or with fewer fields than t has, a prefix of its keys. A field of another width than the
// layout's is a bug of the caller: Key panics.
func Key(t Table, fields ...[]byte) []byte {
	in, ok := layout[t]
	if !ok || len(fields) > len(in.fields) {
		panic(fmt.Sprintf("table: %d fields for %s", len(fields), t))
	}
	key := make([]byte, 1, 64)
	key[0] = byte(t)
	for i, f := range fields {
		if width := in.fields[i]; width != free && len(f) != width {
			panic(fmt.Sprintf("table: field %d of %s has %d bytes, want %d", i, t, len(f), width))
		}
		key = append(key, f...)
	}
	return key
}

// Field is the n-th field of a complete key, from 0, without a copy. It panics when the key has no such field.
func Field(key []byte, n int) []byte {
	in := layout[Table(key[0])]
	at := 1
	for _, width := range in.fields[:n] {
		at += width
	}
	if in.fields[n] == free {
		return key[at:]
	}
	return key[at : at+in.fields[n] : at+in.fields[n]]
}

// Uint64 is n in the eight bytes that a field of a key wants.
func Uint64(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// Number reads a field that Uint64 made. It panics when the field is shorter.
func Number(field []byte) uint64 { return binary.BigEndian.Uint64(field) }

// After is the smallest key behind all keys that begin with prefix: the end of a range. It is nil, which stands for the
// end of everything, when there is no such key.
func After(prefix []byte) []byte {
	for i := len(prefix) - 1; i >= 0; i-- {
		if prefix[i] != 0xff {
			end := append([]byte(nil), prefix[:i+1]...)
			end[i]++
			return end
		}
	}
	return nil
}
