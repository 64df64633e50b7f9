package main

import (
	"encoding/json"

	"github.com/spf13/cobra"
)

func newMailboxCommand() *cobra.Command {
	list := &cobra.Command{
		Use: "list ADDRESS", Short: "List the mailboxes of an account",
		Example: `  martlet mailbox list carol@example.org
  martlet mailbox list carol@example.org --json | jq -r 'select(.unseen > 0) | .name'`,
		Args: arguments(1, 1), RunE: listMailboxes,
	}
	return family("mailbox", "List the mailboxes of an account", "Mailboxes are made and changed by mail clients; here they can be looked at.", list)
}

func listMailboxes(cmd *cobra.Command, args []string) error {
	t := newTable(cmd.OutOrStdout(), "NAME", "ROLE", "MESSAGES", "UNSEEN", "SIZE")
	return list(cmd, accountPath(args[0])+"/mailboxes", func(line json.RawMessage) error {
		var m struct {
			Name     string `json:"name"`
			Role     string `json:"role"`
			Messages int64  `json:"messages"`
			Unseen   int64  `json:"unseen"`
			Bytes    int64  `json:"bytes"`
		}
		if err := json.Unmarshal(line, &m); err != nil {
			return err
		}
		t.row(m.Name, orDash(m.Role), m.Messages, m.Unseen, bytesText(m.Bytes))
		return nil
	}, func() error { return t.end("the account has no mailboxes") })
}
