package main

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

func newClusterCommand() *cobra.Command {
	return family("cluster", "Look after the nodes that share a store, and its databases",
		`Nodes are machines that share a store ([store] engine = "postgres"): each serves every
account. Groups are the databases of the store, of which each account is in one. See
docs/cluster.md.`,
		clusterStatusCommand(), clusterDrainCommand(), clusterForgetCommand(),
		clusterGroupsCommand(), clusterAddGroupCommand(), clusterMoveCommand(), clusterMovesCommand())
}

func clusterStatusCommand() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "List the nodes, and what each does",
		Long: `Lists the nodes that share the store: whether each is up, draining, stopped, or silent (it
has not been heard for [cluster] lease, and others have taken over); what it does that only
one node does at a time; and how much mail waits in its part of the queue. Asked where no
server runs, which of them live is not known at once: their state is "unheard".`,
		Example: `  martlet cluster status
  martlet cluster status --json | jq -r 'select(.state != "up") | .name'`,
		Args: arguments(0, 0), RunE: clusterStatus,
	}
}

// nodeLine is a node as the handler tells of it.
type nodeLine struct {
	Name    string    `json:"name"`
	Number  uint64    `json:"number"`
	State   string    `json:"state"`
	Here    bool      `json:"here"`
	Version string    `json:"version"`
	Leases  []string  `json:"leases"`
	Queued  int64     `json:"queued"`
	Last    time.Time `json:"last_beat"`
}

func clusterStatus(cmd *cobra.Command, _ []string) error {
	t := newTable(cmd.OutOrStdout(), "NODE", "NUMBER", "STATE", "VERSION", "LAST HEARD", "QUEUED", "DOES")
	return list(cmd, "/v1/nodes", func(line json.RawMessage) error {
		var n nodeLine
		if err := json.Unmarshal(line, &n); err != nil {
			return err
		}
		name := n.Name
		if n.Here {
			name += " (here)"
		}
		t.row(name, n.Number, n.State, n.Version, moment(&n.Last), n.Queued, strings.Join(n.Leases, " "))
		return nil
	}, func() error { return t.end("no node has joined yet; start one with: martlet serve") })
}

func clusterDrainCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "drain NODE", Short: "Take a node out of service without losing anything",
		Long: `Tells a node to leave: its /readyz says so, what only one node does at a time goes to others
at once, and after [cluster] leave its sessions end as at a stop and new ones are sent away,
so that clients come back elsewhere. The process goes on, and can then be stopped, upgraded
and started; starting ends it, and so does --undo. A stop by SIGTERM does all this by itself.`,
		Example: `  martlet cluster drain mx2
  martlet cluster drain mx2 --undo
  martlet cluster drain mx2 --json`,
		Args: arguments(1, 1), RunE: clusterDrain,
	}
	c.Flags().Bool("undo", false, "let the node stay")
	return c
}

func nodePath(name string) string { return "/v1/nodes/" + url.PathEscape(name) }

func clusterDrain(cmd *cobra.Command, args []string) error {
	path, say := nodePath(args[0])+"/drain", "%s leaves; see its /health for the sessions that are left"
	if undo, _ := cmd.Flags().GetBool("undo"); undo {
		path, say = path+"?undo=true", "%s stays"
	}
	return change(cmd, call{"POST", path, nil, false}, func(map[string]any) string { return fmt.Sprintf(say, args[0]) })
}

func clusterForgetCommand() *cobra.Command {
	return &cobra.Command{
		Use: "forget NODE", Short: "Forget a node that is gone for good",
		Long: `Forgets the name of a node that has stopped, or was not heard for a lease. Mail that it had
queued is sent by the others, and has to be before.`,
		Example: `  martlet cluster forget mx3
  martlet cluster forget mx3 --json`,
		Args: arguments(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return change(cmd, call{"DELETE", nodePath(args[0]), nil, false}, func(map[string]any) string { return args[0] + " is forgotten" })
		},
	}
}
