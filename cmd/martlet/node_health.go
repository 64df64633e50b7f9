package main

import "context"

// nodesHealth are the nodes that share the store.
func (h *house) nodesHealth(ctx context.Context) (list []nodeHealth) {
	if h.node == nil || !h.node.Shared() {
		return nil
	}
	all, err := h.node.List(ctx)
	if err != nil {
		return nil // the page tells of the store
	}
	for _, m := range all {
		list = append(list, nodeHealth{Name: m.Name, Number: m.Number, State: string(m.State), Here: m.Here, Version: m.Version, Leases: m.Leases, Last: m.Last})
	}
	return list
}

// draining tells whether this node is about to leave.
func (h *house) draining() bool { return h.node != nil && h.node.Draining() }
