package operator

import "souk/ledger"

// Bank is the bank as it is between steps, to be read and never changed; nil in a node that is no operator.
func (o *Operator) Bank() *ledger.Bank { return o.bank }
