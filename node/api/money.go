package api

import (
	"context"

	"github.com/danielgtaylor/huma/v2"

	"souk/ledger"
	"souk/node/core/consumer"
	"souk/node/core/operator"
	"souk/node/core/table"
	"souk/p2p/identity"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// A PayoutOrder has the bank pay out what was earned.
type PayoutOrder struct {
	ID     wire.ID       `json:"id" doc:"random; the same one again is the same payout"`
	Amount ledger.Amount `json:"amount" doc:"credits"`
}

// A TransferOrder gives credits to another member.
type TransferOrder struct {
	ID     wire.ID       `json:"id" doc:"random; the same one again is the same transfer"`
	To     string        `json:"to" doc:"the receiver's whole address"`
	Amount ledger.Amount `json:"amount" doc:"credits"`
	Earned bool          `json:"earned,omitempty" doc:"from what was earned, not from what is available"`
	Memo   string        `json:"memo,omitempty" maxLength:"128"`
}

// An OwnLimit is what an account does not want to spend more than.
type OwnLimit struct {
	Hourly ledger.Rate   `json:"hourly" doc:"credits per hour, of all that is up; 0: no limit"`
	Daily  ledger.Amount `json:"daily" doc:"credits in 1,440 minutes of the market; 0: no limit"`
}

// An Outcome is what became of a payout outside.
type Outcome struct {
	Ref    string `json:"ref,omitempty" maxLength:"128" doc:"of the payment outside"`
	Reason string `json:"reason,omitempty" maxLength:"128" doc:"why it could not be paid"`
}

type outcomeInput struct {
	ID   string `path:"id" doc:"of the payout, or the beginning of it"`
	Body Outcome
}

// A Line is one entry of the bank's journal as it concerns one account.
type Line struct {
	Entry       uint64                   `json:"entry"`
	At          member.Time              `json:"at"`
	Kind        string                   `json:"kind"`
	Reservation wire.ID                  `json:"reservation"` // zero where the entry is about none
	Books       map[string]ledger.Amount `json:"books"`       // what it moved on each
	Available   ledger.Amount            `json:"available"`   // after the entry
}

func (s *server) moneyRoutes(a huma.API) {
	command[struct{ Body PayoutOrder }, consumer.Payment](s, a, patient(op("payout", "POST", "/v1/payments/payouts", "Have the bank pay out what was earned")),
		func(in *struct{ Body PayoutOrder }) any {
			return consumer.PayOut{ID: in.Body.ID, Amount: in.Body.Amount}
		})
	route(a, patient(op("transfer", "POST", "/v1/payments/transfers", "Give credits to another member")),
		func(ctx context.Context, in *struct{ Body TransferOrder }) (consumer.Payment, error) {
			to, err := identity.ParseAddress(in.Body.To)
			if err != nil {
				return consumer.Payment{}, usage("%v", err)
			}
			return do[consumer.Payment](ctx, s.b, consumer.Give{ID: in.Body.ID, To: to, Amount: in.Body.Amount, Earned: in.Body.Earned, Memo: in.Body.Memo})
		})
	command[none, ledger.Ceiling](s, a, patient(op("limit", "GET", "/v1/limit", "What the account may spend, and why")),
		func(*none) any { return consumer.ShowLimit{} })
	command[struct{ Body OwnLimit }, ledger.Ceiling](s, a, patient(op("set-limit", "PUT", "/v1/limit", "Have the bank hold the account to a limit of its own")),
		func(in *struct{ Body OwnLimit }) any {
			return consumer.SetLimit{Hourly: in.Body.Hourly, Daily: in.Body.Daily}
		})
	command[none, []consumer.Payment](s, a, patient(op("payments", "GET", "/v1/payments", "Payouts and transfers that this node ordered, and how they stand")),
		func(*none) any { return consumer.Payments{} })
	command[none, []operator.PayoutView](s, a, op("payouts", "GET", "/v1/operator/payouts", "Payouts that members asked for, those that wait first"),
		func(*none) any { return operator.Payouts{} })
	command[outcomeInput, operator.PayoutView](s, a, op("payout-paid", "POST", "/v1/operator/payouts/{id}/pay", "Record that a payout has arrived"),
		func(in *outcomeInput) any { return operator.Pay{ID: in.ID, Ref: in.Body.Ref} })
	command[outcomeInput, operator.PayoutView](s, a, op("payout-returned", "POST", "/v1/operator/payouts/{id}/return", "Record that a payout could not be paid"),
		func(in *outcomeInput) any { return operator.Return{ID: in.ID, Reason: in.Body.Reason} })
	route(a, patient(op("statement", "GET", "/v1/operator/statements/{addr}", "Every entry of the bank's journal about one account, the oldest first")),
		func(ctx context.Context, in *whoInput) ([]Line, error) {
			who, err := do[operator.Name](ctx, s.b, operator.Resolve{Ref: in.Addr})
			if err != nil {
				return nil, err
			}
			return s.statement(ctx, who.Address)
		})
}

// statement reads the whole journal, page by page.
func (s *server) statement(ctx context.Context, who identity.Address) ([]Line, error) {
	lines := []Line{}
	var available ledger.Amount
	from, end := table.Key(table.BankEntry), table.After(table.Key(table.BankEntry))
	for {
		objects, err := s.b.Objects(ctx, from, end, entriesMost, false)
		if err != nil || len(objects) == 0 {
			return lines, err
		}
		for _, o := range objects {
			e, err := wire.Decode[ledger.Entry](o)
			if err != nil {
				return nil, err
			}
			from = operator.EntryKey(e.Seq + 1)
			l := Line{Entry: e.Seq, At: e.At, Kind: e.Entry.String(), Reservation: e.Reservation, Books: map[string]ledger.Amount{}}
			for _, p := range e.Postings {
				if p.Account != who {
					continue
				}
				l.Books[p.Book.String()] += p.Amount
				if p.Book == ledger.BookAvailable {
					available += p.Amount
				}
			}
			if l.Available = available; len(l.Books) > 0 {
				lines = append(lines, l)
			}
		}
	}
}
