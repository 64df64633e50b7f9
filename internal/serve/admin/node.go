package admin

import (
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/node"
)

// nodeCalls are the calls about the nodes that share the store: docs/cluster.md.
func (a *api) nodeCalls() map[string]handler {
	return map[string]handler{
		"GET /v1/nodes":               a.listNodes,
		"POST /v1/nodes/{name}/drain": a.drainNode,
		"DELETE /v1/nodes/{name}":     a.forgetNode,
	}
}

// nodeLine is a node as it is told of.
type nodeLine struct {
	Name      string     `json:"name"`
	Number    uint64     `json:"number"`
	State     node.State `json:"state"` // up, draining, silent, stopped, unheard
	Here      bool       `json:"here,omitempty"`
	Version   string     `json:"version"`
	Format    uint64     `json:"format"`
	Addresses []string   `json:"addresses"`
	Leases    []string   `json:"leases"`
	Queued    int        `json:"queued"` // messages in its part of the queue
	Started   time.Time  `json:"started"`
	Last      time.Time  `json:"last_beat"`
}

func (a *api) nodes() (*node.Node, error) {
	if a.Node == nil || !a.Node.Shared() {
		return nil, fault.New(fault.Unsupported, `this store belongs to one machine, and has no nodes; see docs/cluster.md for [store] engine = "postgres"`)
	}
	return a.Node, nil
}

func (a *api) listNodes(r *request) error {
	n, err := a.nodes()
	if err != nil {
		return err
	}
	list, err := n.List(r.ctx)
	if err != nil {
		return err
	}
	for _, m := range list {
		c, err := a.Queue.CountPart(r.ctx, m.Number)
		if err != nil {
			return err
		}
		line := nodeLine{m.Name, m.Number, m.State, m.Here, m.Version, m.Format, m.Addresses, m.Leases, c.Messages, m.Started, m.Last}
		if line.Leases == nil {
			line.Leases = []string{}
		}
		if line.Addresses == nil {
			line.Addresses = []string{}
		}
		if err := r.send(line); err != nil {
			return err
		}
	}
	return nil
}

// drainNode tells a node to leave, or with undo that it need not.
func (a *api) drainNode(r *request) error {
	n, err := a.nodes()
	if err != nil {
		return err
	}
	name, on := r.PathValue("name"), r.URL.Query().Get("undo") != "true"
	if err := n.Drain(r.ctx, name, on); err != nil {
		return err
	}
	return r.send(map[string]any{"name": name, "draining": on})
}

// forgetNode removes the name of a node that is gone.
func (a *api) forgetNode(r *request) error {
	n, err := a.nodes()
	if err != nil {
		return err
	}
	name := r.PathValue("name")
	if err := n.Forget(r.ctx, name, a.Queue.Empty); err != nil {
		return err
	}
	return r.send(map[string]any{"name": name, "forgotten": true})
}
