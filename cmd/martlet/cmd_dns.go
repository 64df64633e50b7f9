package main

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"github.com/martlet-mail/martlet/internal/publish"
)

func newDNSCommand() *cobra.Command {
	show := &cobra.Command{
		Use: "show DOMAIN", Short: "Show every record that a domain should have",
		Long: `Shows every record that a domain should have in the DNS, each marked must, should or
optional. Formats:

  table  one record a line (the default)
  forms  each record split into the fields that registrars ask for, and why it is needed
  zone   a part of a zone file, for BIND and for providers that import one
  csv    for spreadsheets and for providers that import one
  json   the same as --json`,
		Example: `  martlet dns show example.org
  martlet dns show example.org --format forms
  martlet dns show example.org --format zone >> db.example.org
  martlet dns show example.org --json | jq '.[] | select(.need == "must")'`,
		Args: arguments(1, 1), RunE: showDNS,
	}
	show.Flags().String("format", "table", "table, forms, zone, csv or json")
	diff := &cobra.Command{
		Use: "diff DOMAIN", Short: "Compare a domain's records with what the DNS says",
		Long: `Asks the DNS for every record that a domain should have, and says which are missing,
wrong, or there too much, with what is there instead. Exit code 1 if a record that must be
there is not as it should be.`,
		Example: `  martlet dns diff example.org
  martlet dns diff example.org --json | jq 'select(.status != "ok")'`,
		Args: arguments(1, 1), RunE: diffDNS,
	}
	apply := &cobra.Command{
		Use: "apply DOMAIN", Short: "Make a domain's records in the DNS, by dynamic updates",
		Long: `Makes the records of a domain that are missing, in the zones of the [[dns.update]] blocks
of the configuration (RFC 2136, signed by TSIG). What was made here before and is not wanted
any more is taken out again. No other record is ever touched: one that is in the way is
shown, and left alone.

The plan is shown first. On a terminal you are asked before anything is done; off a terminal
--yes has to be given. Exit code 1 if a record that must be there is left for you to make:
blocked by another, or by hand since it lies in none of those zones.`,
		Example: `  martlet dns apply example.org --dry-run
  martlet dns apply example.org
  martlet dns apply example.org --all --yes --json`,
		Args: arguments(1, 1), RunE: applyDNS,
	}
	apply.Flags().Bool("dry-run", false, "only show what would be done")
	apply.Flags().Bool("all", false, "make optional records, too")
	apply.Flags().Bool("yes", false, "do not ask")
	return family("dns", "Show, compare and make the records of a domain",
		"The domain name system tells others where a domain's mail goes, and who may send in its name.", show, diff, apply)
}

func dnsPath(domain, rest string) string {
	return "/v1/domains/" + url.PathEscape(domain) + "/dns" + rest
}

// fetched collects the lines of an answer.
func fetched[T any](cmd *cobra.Command, method, path string, in any) (all []T, err error) {
	cl, err := connect(cmd, false)
	if err != nil {
		return nil, err
	}
	defer cl.close()
	all = []T{}
	err = cl.do(cmd.Context(), method, path, in, func(line json.RawMessage) error {
		var v T
		if err := json.Unmarshal(line, &v); err != nil {
			return err
		}
		all = append(all, v)
		return nil
	})
	return all, err
}

func showDNS(cmd *cobra.Command, args []string) error {
	format, _ := cmd.Flags().GetString("format")
	if wantsJSON(cmd) {
		format = "json"
	}
	forms := map[string]func([]publish.Record) error{
		"json":  func(all []publish.Record) error { return printJSON(cmd.OutOrStdout(), all) },
		"zone":  func(all []publish.Record) error { return publish.ZoneFile(cmd.OutOrStdout(), asciiName(args[0]), all) },
		"csv":   func(all []publish.Record) error { return publish.CSV(cmd.OutOrStdout(), asciiName(args[0]), all) },
		"forms": func(all []publish.Record) error { return publish.Forms(cmd.OutOrStdout(), asciiName(args[0]), all) },
		"table": func(all []publish.Record) error { return tableDNS(cmd, asciiName(args[0]), all) },
	}
	print := forms[format]
	if print == nil {
		return misused("there is no format %q; use table, forms, zone, csv or json", format)
	}
	all, err := fetched[publish.Record](cmd, "GET", dnsPath(args[0], ""), nil)
	if err != nil {
		return err
	}
	return print(all)
}

func tableDNS(cmd *cobra.Command, domain string, all []publish.Record) error {
	t := newTable(cmd.OutOrStdout(), "NEED", "HOST", "TYPE", "VALUE")
	for _, r := range all {
		t.row(r.Need, r.Host(domain), r.Type, r.Value)
	}
	return t.end("")
}

func diffDNS(cmd *cobra.Command, args []string) error {
	all, err := fetched[publish.Finding](cmd, "GET", dnsPath(args[0], "/diff"), nil)
	if err != nil {
		return err
	}
	bad := 0
	t := newTable(cmd.OutOrStdout(), "STATUS", "NEED", "HOST", "TYPE", "WANTED", "FOUND")
	domain := asciiName(args[0])
	for _, f := range all {
		if f.Need == publish.Must && f.Status != publish.Same && f.Status != publish.Extra {
			bad++
		}
		if wantsJSON(cmd) {
			if err := printJSON(cmd.OutOrStdout(), f); err != nil {
				return err
			}
			continue
		}
		wanted, found := f.Value, strings.Join(f.Found, " | ")
		if f.Status == publish.Extra {
			wanted = ""
		}
		if f.Note != "" {
			found = strings.TrimSpace(found + " (" + f.Note + ")")
		}
		t.row(f.Status, f.Need, f.Host(domain), f.Type, shortened(wanted), shortened(orDash(found)))
	}
	if err := t.end(""); err != nil {
		return err
	}
	if bad > 0 {
		return failed("%s of %s must be put right; the values in full: martlet dns show %s --format forms", counted(int64(bad), "record"), args[0], args[0])
	}
	return nil
}

// shortened keeps a key from filling the screen.
func shortened(s string) string {
	if len(s) > 80 {
		return s[:60] + "..." + s[len(s)-10:]
	}
	return s
}

func applyDNS(cmd *cobra.Command, args []string) error {
	dry, _ := cmd.Flags().GetBool("dry-run")
	all, _ := cmd.Flags().GetBool("all")
	yes, _ := cmd.Flags().GetBool("yes")
	path := dnsPath(args[0], "/apply")
	steps, err := fetched[publish.Step](cmd, "POST", path, map[string]bool{"dry_run": true, "all": all})
	if err != nil {
		return err
	}
	changes, err := tellSteps(cmd, asciiName(args[0]), steps)
	if err != nil {
		return err
	}
	if dry || changes == 0 {
		return leftToDo(args[0], steps)
	}
	if !yes && !isTerminal(cmd.InOrStdin()) {
		return failed("%s to be made; run it with --yes", counted(int64(changes), "change"))
	}
	if err := confirmed(cmd, fmt.Sprintf("Make %s?", counted(int64(changes), "change"))); err != nil {
		return err
	}
	if _, err := fetched[publish.Step](cmd, "POST", path, map[string]bool{"all": all}); err != nil {
		return err
	}
	if !wantsJSON(cmd) {
		fmt.Fprintln(cmd.OutOrStdout(), "done")
	}
	return leftToDo(args[0], steps)
}

// leftToDo is an error if a plan leaves out a record that must be there.
func leftToDo(domain string, steps []publish.Step) error {
	blocked, byHand := 0, 0
	for _, s := range steps {
		switch {
		case s.Need != publish.Must:
		case s.Action == publish.Blocked:
			blocked++
		case s.Action == publish.ByHand:
			byHand++
		}
	}
	if blocked+byHand == 0 {
		return nil
	}
	var left []string
	if blocked > 0 {
		left = append(left, fmt.Sprintf("%d blocked (take out or change what is in the way)", blocked))
	}
	if byHand > 0 {
		left = append(left, fmt.Sprintf("%d by hand (in no zone of a [[dns.update]] block; of a PTR, ask whoever gave you the address)", byHand))
	}
	return failed("%s that must be there %s left for you: %s; the values in full: martlet dns show %s --format forms",
		counted(int64(blocked+byHand), "record"), map[bool]string{true: "is", false: "are"}[blocked+byHand == 1], strings.Join(left, ", "), domain)
}

// tellSteps shows a plan and returns how many changes it makes.
func tellSteps(cmd *cobra.Command, domain string, steps []publish.Step) (changes int, err error) {
	t := newTable(cmd.OutOrStdout(), "ACTION", "NEED", "HOST", "TYPE", "VALUE")
	for _, s := range steps {
		if s.Action == publish.Add || s.Action == publish.Remove {
			changes++
		}
		if wantsJSON(cmd) {
			if err := printJSON(cmd.OutOrStdout(), s); err != nil {
				return 0, err
			}
			continue
		}
		value := shortened(s.Value)
		if len(s.Found) > 0 {
			value += " (in its place: " + shortened(strings.Join(s.Found, " | ")) + ")"
		}
		if s.Action == publish.Leave && s.Need == "" {
			value += " (" + s.Why + ")"
		}
		t.row(s.Action, orDash(string(s.Need)), s.Host(domain), s.Type, value)
	}
	return changes, t.end("")
}
