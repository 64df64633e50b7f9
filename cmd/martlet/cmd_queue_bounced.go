package main

import (
	"encoding/json"
	"fmt"
	"net/url"
	"time"

	"github.com/spf13/cobra"
)

func newQueueBouncedCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "bounced [ACCOUNT]", Short: "List addresses that accounts' mail came back from",
		Long: `Lists the addresses that a host has said do not exist, or take no mail any more, by the
account that sent to them, for 90 days. What becomes of more mail to them says [submission]
suppress in the configuration.`,
		Example: `  martlet queue bounced
  martlet queue bounced list@example.org --json | jq -r .address`,
		Args: arguments(0, 1), RunE: listBounced,
	}
	return c
}

func listBounced(cmd *cobra.Command, args []string) error {
	query := url.Values{}
	if len(args) > 0 {
		query.Set("login", args[0])
	}
	out, count := cmd.OutOrStdout(), int64(0)
	return list(cmd, "/v1/bounced?"+query.Encode(), func(line json.RawMessage) error {
		var b struct {
			Login, Address, Said string
			At                   time.Time
		}
		if err := json.Unmarshal(line, &b); err != nil {
			return err
		}
		count++
		_, err := fmt.Fprintf(out, "%s -> %s, %s\n    %s\n", clean(b.Login), paint(out, bold, clean(b.Address)), b.At.Local().Format("Jan 02 15:04"), clean(b.Said))
		return err
	}, func() error {
		_, err := fmt.Fprintln(out, counted(count, "entry"))
		return err
	})
}

func newQueueForgiveCommand() *cobra.Command {
	return &cobra.Command{
		Use: "forgive ACCOUNT ADDRESS", Short: "Forget that an account's mail to an address came back",
		Long: "Forgets that mail of an account to an address came back, so that more may be sent to it.",
		Example: `  martlet queue forgive list@example.org bob@example.net
  martlet queue forgive list@example.org bob@example.net --json`,
		Args: arguments(2, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			query := url.Values{"login": {args[0]}, "address": {args[1]}}
			return change(cmd, call{"DELETE", "/v1/bounced?" + query.Encode(), nil, false}, func(map[string]any) string {
				return fmt.Sprintf("%s may send to %s again", args[0], args[1])
			})
		},
	}
}
