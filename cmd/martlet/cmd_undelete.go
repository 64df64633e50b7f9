package main

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/martlet-mail/martlet/internal/conf"
)

func newUndeleteCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "undelete ADDRESS", Short: "Give deleted mail of an account back",
		Long: `Puts mail that was deleted back into the mailboxes in which it lay, with its flags,
dates and annotations; a mailbox that was deleted is made again. What has been given back
is not deleted any more, so to run it twice makes no message twice. Quotas are not asked.

Mail is kept only if [deleted] keep in the configuration says for how long. The user finds
it, too: in the mailbox "Recently Deleted", out of which it can be moved. --plan shows
what would be given back and changes nothing.`,
		Example: `  martlet undelete carol@example.org --plan
  martlet undelete carol@example.org --mailbox Projects --since 2026-03-01
  martlet undelete carol@example.org --mailbox INBOX --uid 17,20:31 --json
  martlet undelete carol@example.org --subject invoice --plan --json | jq .subject`,
		Args: arguments(1, 1), RunE: undelete,
	}
	c.Flags().String("mailbox", "", "only what lay in this mailbox")
	c.Flags().String("since", "", "only what was deleted since a time, or so long ago at most: 2026-03-01, 2026-03-01T12:30, 90m, 7d")
	c.Flags().String("subject", "", "only messages with this in their subject")
	c.Flags().String("uid", "", "only messages that had these UIDs in --mailbox, such as 17,20:31")
	c.Flags().Bool("plan", false, "show what would be given back, and change nothing")
	c.Flags().SortFlags = false
	return c
}

// deletedLine is any line about deleted mail.
type deletedLine struct {
	Event    string    `json:"event"`
	Mailbox  string    `json:"mailbox"`
	UID      uint32    `json:"uid"`
	Deleted  time.Time `json:"deleted"`
	From     string    `json:"from"`
	Subject  string    `json:"subject"`
	Bytes    int64     `json:"bytes"`
	Messages int64     `json:"messages"`
}

func undelete(cmd *cobra.Command, args []string) error {
	query, err := undeleteQuery(cmd, time.Now())
	if err != nil {
		return err
	}
	plan, _ := cmd.Flags().GetBool("plan")
	method, path := "POST", accountPath(args[0])+"/undelete"
	if plan {
		method, path = "GET", accountPath(args[0])+"/deleted"
	}
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	c, err := connect(cmd, false)
	if err != nil {
		return err
	}
	defer c.close()
	out := cmd.OutOrStdout()
	t := newTable(out, "DELETED", "MAILBOX", "UID", "FROM", "SUBJECT")
	var last deletedLine
	err = c.do(cmd.Context(), method, path, nil, func(raw json.RawMessage) error {
		last = deletedLine{}
		if err := json.Unmarshal(raw, &last); err != nil {
			return err
		}
		if wantsJSON(cmd) {
			return printJSON(out, raw)
		}
		if last.Event != "done" {
			t.row(last.Deleted.Local().Format("2006-01-02 15:04"), last.Mailbox, last.UID, orDash(last.From), orDash(last.Subject))
		}
		return nil
	})
	switch {
	case err != nil:
		return err
	case last.Event != "done":
		return failed("the answer was cut short; run the command again: nothing is given back twice")
	case wantsJSON(cmd):
		return nil
	}
	return endUndelete(cmd, t, plan, last)
}

// endUndelete tells a person how it went.
func endUndelete(cmd *cobra.Command, t *table, plan bool, last deletedLine) error {
	if err := t.end("no such deleted mail is kept"); err != nil || last.Messages == 0 {
		return err
	}
	done := "given back"
	if plan {
		done = "would be given back"
	}
	_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s (%s) %s\n", counted(last.Messages, "message"), bytesText(last.Bytes), done)
	return err
}

func undeleteQuery(cmd *cobra.Command, now time.Time) (url.Values, error) {
	query := url.Values{}
	for _, name := range []string{"mailbox", "subject", "uid", "since"} {
		if v, _ := cmd.Flags().GetString(name); v != "" {
			query.Set(name, v)
		}
	}
	if query.Has("uid") && !query.Has("mailbox") {
		return nil, misused("--uid needs --mailbox: a UID is that of a message in one mailbox")
	}
	if query.Has("since") {
		at, err := sinceTime(query.Get("since"), now)
		if err != nil {
			return nil, err
		}
		query.Set("since", at.UTC().Format(time.RFC3339))
	}
	return query, nil
}

// sinceTime reads a time, or how long ago it was.
func sinceTime(text string, now time.Time) (time.Time, error) {
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02 15:04", "2006-01-02"} {
		if at, err := time.ParseInLocation(layout, strings.TrimSpace(text), now.Location()); err == nil {
			return at, nil
		}
	}
	var ago conf.Duration
	if err := ago.UnmarshalText([]byte(text)); err != nil {
		return time.Time{}, misused("--since %q is no time such as 2026-03-01, 2026-03-01T12:30 or 2d", text)
	}
	return now.Add(-time.Duration(ago)), nil
}
