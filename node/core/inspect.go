package core

import (
	"souk/node/core/consumer"
	"souk/node/core/host"
	"souk/node/core/operator"
)

// Host is the node's host role, to be read between steps.
func (n *Node) Host() *host.Host { return n.host }

// Consumer is the node's consumer role, to be read between steps.
func (n *Node) Consumer() *consumer.Consumer { return n.consumer }

// Quarantined reports whether this node signs nothing, as it may not know what it has signed.
func (n *Node) Quarantined() bool { return n.quarantine.IsSet() }

// Operator is the node's operator role, to be read between steps.
func (n *Node) Operator() *operator.Operator { return n.operator }
