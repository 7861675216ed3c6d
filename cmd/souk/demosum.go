package main

import (
	"souk/ledger"
	"souk/node/core/operator"
)

// A sums is what all accounts of a bank hold.
type sums struct{ deposited, available, reserved, payable, paying, paidOut, fees ledger.Amount }

func sumOf(accounts []operator.AccountView) (s sums) {
	for _, a := range accounts {
		s.deposited += a.Deposited
		s.available += a.Available
		s.reserved += a.Reserved
		s.payable += a.Payable
		s.paying += a.Paying
		s.paidOut += a.PaidOut
		s.fees += a.Fees
	}
	return s
}

// total is all that is somewhere.
func (s sums) total() ledger.Amount {
	return s.available + s.reserved + s.payable + s.paying + s.paidOut + s.fees
}
