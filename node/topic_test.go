package node

import (
	"testing"

	"souk/node/core/step"
	"souk/p2p/wire"
)

func TestWhatTheBankSignsForAllIsGossipedToMembers(t *testing.T) {
	for _, k := range []wire.Kind{wire.KindCheckpoint, wire.KindConsistency, wire.KindCredential, wire.KindRevocation, wire.KindPolicy} {
		if got := topicOf(k); got != step.TopicMembers {
			t.Errorf("a %v goes to %q, want %q", k, got, step.TopicMembers)
		}
	}
	for _, k := range []wire.Kind{wire.KindBankEntry, wire.KindVoucher, wire.KindUsage} {
		if got := topicOf(k); got != "" {
			t.Errorf("a %v goes to %q, want nowhere", k, got)
		}
	}
}
