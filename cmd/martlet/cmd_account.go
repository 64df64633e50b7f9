package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/martlet-mail/martlet/internal/conf"
)

func newAccountCommand() *cobra.Command {
	add := &cobra.Command{
		Use: "add ADDRESS", Short: "Make an account with its mailboxes",
		Long: `Makes an account with INBOX, Archive, Drafts, Junk, Sent and Trash. Its login name is
the full address. Without --password-stdin a password is made and printed once.`,
		Example: `  martlet account add carol@example.org
  pass show carol | martlet account add carol@example.org --quota 5GB --password-stdin
  pass show carol-hash | martlet account add carol@example.org --hash-stdin
  martlet account add carol@example.org --waiting`,
		Args: arguments(1, 1), RunE: addAccount,
	}
	passwordFlag(add)
	elsewhereFlags(add)
	add.Flags().String("quota", "0", "most bytes of mail, such as 5GB; 0 is no limit")
	list := &cobra.Command{
		Use: "list [DOMAIN]", Short: "List the accounts, of all domains or of one",
		Example: `  martlet account list
  martlet account list example.org --json | jq -r .address
  martlet account list example.org --json | jq -r 'select(.waiting).address'`,
		Args: arguments(0, 1), RunE: listAccounts,
	}
	show := &cobra.Command{
		Use: "show ADDRESS", Short: "Show an account, its use of space and its quota",
		Example: `  martlet account show carol@example.org
  martlet account show carol@example.org --json | jq .bytes`,
		Args: arguments(1, 1), RunE: showAccount,
	}
	passwd := &cobra.Command{
		Use: "passwd ADDRESS", Short: "Give an account another password",
		Long: `Gives an account another password. Without --password-stdin one is made and printed
once. Sessions that are logged in stay so.`,
		Example: `  martlet account passwd carol@example.org
  pass show carol | martlet account passwd carol@example.org --password-stdin
  doveadm pw -s SHA512-CRYPT | martlet account passwd carol@example.org --hash-stdin`,
		Args: arguments(1, 1), RunE: setPassword,
	}
	passwordFlag(passwd)
	elsewhereFlags(passwd)
	quota := &cobra.Command{
		Use: "quota ADDRESS SIZE", Short: "Set how much mail an account may keep",
		Long: "Sets how many bytes of mail an account may keep; 0 is no limit. Mail that is over it stays.",
		Example: `  martlet account quota carol@example.org 5GB
  martlet account quota carol@example.org 0`,
		Args: arguments(2, 2), RunE: setQuota,
	}
	remove := &cobra.Command{
		Use: "remove ADDRESS", Short: "Remove an account and all its mail",
		Long: "Removes an account and all its mail, for good. On a terminal it asks first.",
		Example: `  martlet account remove carol@example.org
  martlet account remove carol@example.org --yes`,
		Args: arguments(1, 1), RunE: removeAccount,
	}
	remove.Flags().Bool("yes", false, "do not ask")
	return family("account", "Add, list, show and remove accounts, set passwords",
		"Accounts are those who have mailboxes here. Changes hold at once, also in a running server.", add, list, show, newAccountCardCommand(), passwd, quota, newAccountImport(), remove)
}

func passwordFlag(cmd *cobra.Command) {
	cmd.Flags().Bool("password-stdin", false, "read the password from standard input, its first line")
}

// maxPasswordLine bounds what is read of a password, in bytes.
const maxPasswordLine = 4096

// givenPassword returns the password from standard input, or nil if one is to be made.
func givenPassword(cmd *cobra.Command) (*string, error) {
	if on, _ := cmd.Flags().GetBool("password-stdin"); !on {
		return nil, nil
	}
	in := cmd.InOrStdin()
	var pw string
	if f, ok := in.(interface{ Fd() uintptr }); ok && isTerminal(in) {
		fmt.Fprint(cmd.ErrOrStderr(), "Password: ")
		b, err := term.ReadPassword(int(f.Fd()))
		fmt.Fprintln(cmd.ErrOrStderr())
		if err != nil {
			return nil, failed("cannot read the password: %v", err)
		}
		pw = string(b)
	} else {
		line, err := bufio.NewReader(io.LimitReader(in, maxPasswordLine)).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, failed("cannot read the password from standard input: %v", err)
		}
		pw = strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r")
	}
	if pw == "" {
		return nil, misused("standard input holds no password; give it as the first line, or leave out --password-stdin to have one made")
	}
	return &pw, nil
}

func passwordSentence(done string) func(map[string]any) string {
	return func(a map[string]any) string {
		text := fmt.Sprintf(done, a["address"])
		if pw, ok := a["password"]; ok {
			text += fmt.Sprintf("; password: %v", pw)
		}
		if scheme, ok := a["scheme"]; ok {
			text += fmt.Sprintf("; logs in with the password of the hash (%v)", scheme)
		}
		if on, _ := a["waiting"].(bool); on {
			text += "; its password is the one that the domain's former server takes at its first login (martlet domain set DOMAIN migrate-from=...)"
		}
		if warning, ok := a["warning"]; ok {
			text += fmt.Sprintf("; warning: %v", warning)
		}
		return text
	}
}

func addAccount(cmd *cobra.Command, args []string) error {
	text, _ := cmd.Flags().GetString("quota")
	quota, err := parseSize(text)
	if err != nil {
		return err
	}
	body, err := givenLogin(cmd)
	if err != nil {
		return err
	}
	body["address"], body["quota_bytes"] = args[0], quota
	return change(cmd, call{"POST", "/v1/accounts", body, true}, passwordSentence("made %v"))
}

func setPassword(cmd *cobra.Command, args []string) error {
	body, err := givenLogin(cmd)
	if err != nil {
		return err
	}
	c := call{"PUT", accountPath(args[0]) + "/password", body, false}
	return change(cmd, c, passwordSentence("%v has a new password"))
}

func setQuota(cmd *cobra.Command, args []string) error {
	quota, err := parseSize(args[1])
	if err != nil {
		return err
	}
	c := call{"PUT", accountPath(args[0]) + "/quota", map[string]int64{"quota_bytes": quota}, false}
	return change(cmd, c, func(a map[string]any) string {
		if quota == 0 {
			return fmt.Sprintf("%v has no quota now", a["address"])
		}
		return fmt.Sprintf("%v may keep %s now", a["address"], bytesText(quota))
	})
}

func parseSize(text string) (int64, error) {
	var s conf.Size
	if err := s.UnmarshalText([]byte(text)); err != nil {
		return 0, misused("quota: %v", err)
	}
	return int64(s), nil
}

func removeAccount(cmd *cobra.Command, args []string) error {
	if err := confirmed(cmd, fmt.Sprintf("Remove %s and all its mail for good?", clean(args[0]))); err != nil {
		return err
	}
	return change(cmd, call{"DELETE", accountPath(args[0]), nil, false}, func(a map[string]any) string {
		return fmt.Sprintf("removed %v", a["removed"])
	})
}

func accountPath(address string) string { return "/v1/accounts/" + url.PathEscape(address) }

func listAccounts(cmd *cobra.Command, args []string) error {
	path := "/v1/accounts"
	if len(args) == 1 {
		path += "?domain=" + url.QueryEscape(args[0])
	}
	t := newTable(cmd.OutOrStdout(), "ADDRESS", "CREATED", "PASSWORD")
	return list(cmd, path, func(line json.RawMessage) error {
		var a struct {
			Address string `json:"address"`
			Created string `json:"created"`
			Foreign bool   `json:"foreign"`
			Waiting bool   `json:"waiting"`
		}
		if err := json.Unmarshal(line, &a); err != nil {
			return err
		}
		day, _, _ := strings.Cut(a.Created, "T")
		password := ""
		switch {
		case a.Waiting:
			password = "waits for the first login"
		case a.Foreign:
			password = "of another server"
		}
		t.row(a.Address, day, password)
		return nil
	}, func() error { return t.end("there are no accounts; add one with: martlet account add ADDRESS") })
}

func showAccount(cmd *cobra.Command, args []string) error {
	out := cmd.OutOrStdout()
	return list(cmd, accountPath(args[0]), func(line json.RawMessage) error {
		var a struct {
			Address   string `json:"address"`
			Created   string `json:"created"`
			Mailboxes int64  `json:"mailboxes"`
			Messages  int64  `json:"messages"`
			Bytes     int64  `json:"bytes"`
			Quota     int64  `json:"quota_bytes"`
			Scheme    string `json:"password_scheme"`
			Foreign   bool   `json:"foreign"`
			Waiting   bool   `json:"waiting"`
		}
		if err := json.Unmarshal(line, &a); err != nil {
			return err
		}
		allowed := "no limit"
		if a.Quota > 0 {
			allowed = bytesText(a.Quota)
		}
		_, err := fmt.Fprintf(out, "%s\nCreated  %s\nHolds    %s in %s, %s\nQuota    %s\nPassword %s\n", paint(out, bold, clean(a.Address)),
			a.Created, bytesText(a.Bytes), counted(a.Messages, "message"), counted(a.Mailboxes, "mailbox"), allowed, passwordState(a.Scheme, a.Foreign, a.Waiting))
		return err
	}, func() error { return nil })
}
