package api

import (
	"context"

	"github.com/danielgtaylor/huma/v2"

	"souk/ledger/audit"
	"souk/node/core/observer"
	"souk/node/core/step"
	"souk/p2p/identity"
)

// A Proof is what this node's account comes to, and the file that proves it.
type Proof struct {
	Summary audit.Summary `json:"summary"`
	File    string        `json:"file" doc:"as 'souk ledger verify' reads it; not a byte of it may change"`
}

// An Accusation is what evidence against an operator shows, and the file that proves it.
type Accusation struct {
	Verdict audit.Verdict `json:"verdict"`
	File    string        `json:"file" doc:"as 'souk ledger verify' reads it; not a byte of it may change"`
}

func (s *server) auditRoutes(a huma.API) {
	command[none, []observer.Audited](s, a, op("checkpoints", "GET", "/v1/ledger/checkpoints", "What this node holds of the operators' checkpoints"),
		func(*none) any { return observer.Audits{} })
	route(a, patient(op("prove", "GET", "/v1/ledger/proof", "Have the bank prove this node's account, entry by entry")),
		func(ctx context.Context, _ *none) (Proof, error) { return s.proof(ctx) })
	route(a, op("evidence", "GET", "/v1/ledger/evidence", "What this node has against operators that signed what cannot all be true"),
		func(ctx context.Context, _ *none) ([]Accusation, error) { return s.evidence(ctx) })
}

func (s *server) proof(ctx context.Context) (Proof, error) {
	v, err := do[audit.Statement](ctx, s.b, observer.Prove{})
	if err != nil {
		return Proof{}, err
	}
	if v.Charter, err = s.b.Signed(ctx, v.Charter); err != nil {
		return Proof{}, err
	}
	sum, err := v.Verify(identity.Secp256k1{})
	if err != nil {
		return Proof{}, step.Fail(step.ProblemVerify, "the bank's answer does not prove this node's account; ask its operator", "%v", err)
	}
	return Proof{sum, string(v.Encode())}, nil
}

func (s *server) evidence(ctx context.Context) ([]Accusation, error) {
	list, err := do[[]audit.Evidence](ctx, s.b, observer.Evident{})
	if err != nil {
		return nil, err
	}
	out := []Accusation{}
	for _, e := range list {
		if e.Charter, err = s.b.Signed(ctx, e.Charter); err != nil {
			return nil, err
		}
		for i := range e.Objects {
			if e.Objects[i], err = s.b.Signed(ctx, e.Objects[i]); err != nil {
				return nil, err
			}
		}
		v, err := e.Verify(identity.Secp256k1{})
		if err != nil {
			return nil, err
		}
		out = append(out, Accusation{v, string(e.Encode())})
	}
	return out, nil
}
