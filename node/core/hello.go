package core

import (
	"souk/node/core/step"
	"souk/p2p/member"
	"souk/p2p/wire"
)

// Hello is what this node says of itself to a new neighbour; the shell fills in the time.
func (n *Node) Hello() (step.HelloBody, []wire.Object) {
	return n.observer.HelloBody(&step.Context{Boot: n.boot})
}

// ServesJoin reports whether strangers may ask this node for membership.
func (n *Node) ServesJoin() bool { return n.roles.Has(member.RoleOperator) }
