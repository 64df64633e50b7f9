package main

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/martlet-mail/martlet/internal/dnsx"
)

// domainCommands are those about one domain's settings and keys.
func domainCommands() []*cobra.Command {
	show := &cobra.Command{
		Use: "show DOMAIN", Short: "Show a domain's settings and keys",
		Example: `  martlet domain show example.org
  martlet domain show example.org --json | jq .settings`,
		Args: arguments(1, 1), RunE: showDomain,
	}
	set := &cobra.Command{
		Use: "set DOMAIN NAME=VALUE...", Short: "Change settings of a domain",
		Long: `Changes settings of a domain; "martlet domain show" lists them with their meanings. An
empty value brings the default back. Some change what has to be in the DNS: "martlet dns
diff" tells.`,
		Example: `  martlet domain set example.org dmarc=reject
  martlet domain set example.org mta-sts=enforce tls-reports=tls@example.org
  martlet domain set example.org migrate-from=imaps://old.example.org
  martlet domain set example.org dmarc=`,
		Args: arguments(2, -1), RunE: setDomain,
	}
	keys := &cobra.Command{
		Use: "keys DOMAIN", Short: "List the keys that sign a domain's mail",
		Example: `  martlet domain keys example.org
  martlet domain keys example.org --json | jq 'select(.state == "next")'`,
		Args: arguments(1, 1), RunE: listKeys,
	}
	rotate := &cobra.Command{
		Use: "rotate DOMAIN", Short: "Take the next step to new signing keys",
		Long: `Takes the next step from a domain's keys to new ones, without a moment at which signatures
cannot be verified. First the next keys are made, and published if the server may change
the zone. Once they are in the DNS, the second call (or the server by itself, within hours)
lets them sign. The old ones must stay in the DNS for as long as mail may wait here and a
week more (42 days, unless the configuration says otherwise); "martlet dns diff" tells when
to take them out.`,
		Example: `  martlet domain rotate example.org
  martlet domain rotate example.org --json
  martlet domain rotate example.org --force`,
		Args: arguments(1, 1), RunE: rotateDomain,
	}
	rotate.Flags().Bool("force", false, "let the next keys sign although they are not seen in the DNS")
	return []*cobra.Command{show, set, keys, rotate}
}

func domainPath(domain, rest string) string { return "/v1/domains/" + url.PathEscape(domain) + rest }

// asciiName is a domain as the DNS has it; what is none stays as it is, for others to refuse.
func asciiName(domain string) string {
	if name, err := dnsx.ASCII(domain); err == nil {
		return name
	}
	return domain
}

// shownKey is a key as the server shows it.
type shownKey struct {
	Selector  string    `json:"selector"`
	Algorithm string    `json:"algorithm"`
	State     string    `json:"state"`
	Created   time.Time `json:"created"`
	Activated time.Time `json:"activated"`
	Retired   time.Time `json:"retired"`
	Gone      time.Time `json:"gone"`
	Name      string    `json:"name"`
	Value     string    `json:"value"`
}

// since says since when a key has been in its state, or until when it must stay.
func (k shownKey) since() string {
	switch k.State {
	case "active":
		return "signs since " + day(k.Activated)
	case "next":
		return "made " + day(k.Created) + ", signs nothing yet"
	case "retired":
		return "must stay in the DNS until " + day(k.Gone)
	}
	return "to be out of the DNS since " + day(k.Gone)
}

func day(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Local().Format("2006-01-02")
}

func keyTable(cmd *cobra.Command, keys []shownKey) error {
	t := newTable(cmd.OutOrStdout(), "SELECTOR", "ALGORITHM", "STATE", "")
	for _, k := range keys {
		t.row(k.Selector, k.Algorithm, k.State, k.since())
	}
	return t.end("there are no keys")
}

func showDomain(cmd *cobra.Command, args []string) error {
	type domain struct {
		Domain   string `json:"domain"`
		CatchAll string `json:"catch_all"`
		Settings []struct{ Name, Value, Default, Meaning string }
		Keys     []shownKey `json:"keys"`
	}
	if wantsJSON(cmd) {
		return list(cmd, domainPath(args[0], ""), nil, nil)
	}
	all, err := fetched[domain](cmd, "GET", domainPath(args[0], ""), nil)
	if err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	for _, d := range all {
		fmt.Fprintf(out, "%s, catch-all %s\n\n", paint(out, bold, clean(d.Domain)), clean(orDash(d.CatchAll)))
		t := newTable(out, "SETTING", "VALUE", "DEFAULT", "MEANING")
		for _, s := range d.Settings {
			t.row(s.Name, orDash(s.Value), orDash(s.Default), s.Meaning)
		}
		if err := t.end(""); err != nil {
			return err
		}
		fmt.Fprintln(out)
		if err := keyTable(cmd, d.Keys); err != nil {
			return err
		}
	}
	return nil
}

func setDomain(cmd *cobra.Command, args []string) error {
	values := map[string]string{}
	for _, arg := range args[1:] {
		name, value, ok := strings.Cut(arg, "=")
		if !ok {
			return misused("%q is not of the form NAME=VALUE", arg)
		}
		values[name] = value
	}
	return change(cmd, call{"PUT", domainPath(args[0], "/settings"), values, false}, func(a map[string]any) string {
		return fmt.Sprintf("set for %v; see what that changes in the DNS: martlet dns diff %v", a["domain"], a["domain"])
	})
}

func listKeys(cmd *cobra.Command, args []string) error {
	if wantsJSON(cmd) {
		return list(cmd, domainPath(args[0], "/keys"), nil, nil)
	}
	keys, err := fetched[shownKey](cmd, "GET", domainPath(args[0], "/keys"), nil)
	if err != nil {
		return err
	}
	if err := keyTable(cmd, keys); err != nil {
		return err
	}
	for _, k := range keys {
		if k.Value != "" {
			fmt.Fprintf(cmd.OutOrStdout(), "\n%s TXT\n%s\n", clean(k.Name), clean(k.Value))
		}
	}
	return nil
}

var rotationSteps = map[string]string{
	"active":     "from now on these keys sign mail of %s",
	"published":  "these keys of %s are published, and sign within hours by themselves",
	"to publish": "publish these keys of %s; they sign once they are seen in the DNS, within hours or at the next call",
}

func rotateDomain(cmd *cobra.Command, args []string) error {
	force, _ := cmd.Flags().GetBool("force")
	type rotation struct {
		Domain string     `json:"domain"`
		Step   string     `json:"step"`
		Keys   []shownKey `json:"keys"`
	}
	all, err := fetched[json.RawMessage](cmd, "POST", domainPath(args[0], "/rotate"), map[string]bool{"force": force})
	if err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	for _, line := range all {
		if wantsJSON(cmd) {
			return printJSON(out, line)
		}
		var r rotation
		if err := json.Unmarshal(line, &r); err != nil {
			return err
		}
		fmt.Fprintf(out, rotationSteps[r.Step]+":\n", clean(r.Domain))
		for _, k := range r.Keys {
			fmt.Fprintf(out, "\n%s TXT\n%s\n", clean(k.Name), clean(k.Value))
		}
	}
	return nil
}
