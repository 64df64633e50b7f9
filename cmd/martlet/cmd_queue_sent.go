package main

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"
)

func newQueueSentCommand() *cobra.Command {
	return &cobra.Command{
		Use: "sent", Short: "List what accounts have sent in the last hour and day",
		Long: `Lists the accounts, and the domains that have a limit of their own, that have sent anything
in the last day: messages and recipients, in the last hour and in the last day, each with
its limit if there is one. See [submission] in the configuration.`,
		Example: `  martlet queue sent
  martlet queue sent --json | jq -r 'select(.messages_in_hour > 100) | .name'`,
		Args: arguments(0, 0), RunE: listSent,
	}
}

func listSent(cmd *cobra.Command, _ []string) error {
	out, count := cmd.OutOrStdout(), 0
	return list(cmd, "/v1/sent", func(line json.RawMessage) error {
		var s struct {
			Name             string           `json:"name"`
			MessagesInHour   int64            `json:"messages_in_hour"`
			RecipientsInHour int64            `json:"recipients_in_hour"`
			MessagesInDay    int64            `json:"messages_in_day"`
			RecipientsInDay  int64            `json:"recipients_in_day"`
			Limits           map[string]int64 `json:"limits"`
		}
		if err := json.Unmarshal(line, &s); err != nil {
			return err
		}
		of := func(n int64, limit string) string {
			if l := s.Limits[limit]; l > 0 {
				return fmt.Sprintf("%d of %d", n, l)
			}
			return fmt.Sprint(n)
		}
		count++
		_, err := fmt.Fprintf(out, "%s\n    in the hour: messages %s, recipients %s\n    in the day:  messages %s, recipients %s\n", paint(out, bold, clean(s.Name)),
			of(s.MessagesInHour, "messages_per_hour"), of(s.RecipientsInHour, "recipients_per_hour"),
			of(s.MessagesInDay, "messages_per_day"), of(s.RecipientsInDay, "recipients_per_day"))
		return err
	}, func() error {
		if count > 0 {
			return nil
		}
		_, err := fmt.Fprintln(out, "nobody has sent anything that is counted in the last day")
		return err
	})
}
