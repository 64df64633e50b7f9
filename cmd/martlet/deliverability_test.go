package main

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/internal/conf"
)

// What docs/deliverability.md has a newcomer type is there: each command with its flags and
// number of arguments, and each piece of configuration.
func TestDeliverabilityPage(t *testing.T) {
	text, err := os.ReadFile("../../docs/deliverability.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(text)
	commands := regexp.MustCompile("(?m)(?:^\\s*|`)(martlet [^`\\n#|;>&]*)").FindAllStringSubmatch(page, -1)
	if len(commands) < 20 {
		t.Errorf("only %d commands are found", len(commands))
	}
	for _, c := range commands {
		words := strings.Fields(c[1])[1:]
		root := newRootCommand()
		cmd, rest, err := root.Find(words)
		if err != nil || cmd == root {
			t.Errorf("%q: there is no such command", c[1])
			continue
		}
		if err := cmd.ParseFlags(rest); err != nil {
			t.Errorf("%q: %v", c[1], err)
		}
		mentioned := len(cmd.Flags().Args()) == 0 // in the text, without what it is to be used on
		if cmd.Args != nil && !mentioned && cmd.Args(cmd, cmd.Flags().Args()) != nil {
			t.Errorf("%q: %v", c[1], cmd.Args(cmd, cmd.Flags().Args()))
		}
	}
	blocks := regexp.MustCompile("(?s)```toml\n(.*?)```").FindAllStringSubmatch(page, -1)
	if len(blocks) < 3 {
		t.Errorf("only %d pieces of configuration are found", len(blocks))
	}
	whole := ""
	for _, b := range blocks {
		whole += b[1] + "\n"
	}
	if _, err := conf.Parse("docs/deliverability.md", []byte(whole)); err != nil {
		t.Error(err, describe(err))
	}
}
