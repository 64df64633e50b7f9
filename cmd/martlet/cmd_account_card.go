package main

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/martlet-mail/martlet/internal/discover"
	"github.com/martlet-mail/martlet/internal/discover/format"
	"github.com/martlet-mail/martlet/internal/fault"
)

func newAccountCardCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "card ADDRESS", Short: "Show what somebody needs to set up a mail program",
		Long: `Shows the servers, ports and user name of an account, where its owner finds them, and a QR code
that Thunderbird for Android reads (Import settings, Scan QR code). It holds no password. Most
programs find all this by themselves from the address.`,
		Example: `  martlet account card carol@example.org
  martlet account card carol@example.org --qr carol.png
  martlet account card carol@example.org --json | jq -r .page`,
		Args: arguments(1, 1), RunE: showCard,
	}
	c.Flags().String("qr", "", "write the QR code into a file, .png or .svg, instead of drawing it")
	return c
}

// card is what the owner of an account needs. Its JSON is public interface.
type card struct {
	Address  string             `json:"address"`
	Username string             `json:"username"`
	Services []discover.Service `json:"services"`
	Page     string             `json:"page,omitempty"`    // where its owner finds this
	Profile  string             `json:"profile,omitempty"` // for Apple's devices
	QR       string             `json:"qr,omitempty"`      // what the code says
}

func showCard(cmd *cobra.Command, args []string) error {
	file, _ := cmd.Flags().GetString("qr")
	kind := strings.ToLower(filepath.Ext(file))
	if file != "" && kind != ".png" && kind != ".svg" {
		return misused("--qr %s: the name of the file ends in .png or .svg", file)
	}
	c, err := newCard(cmd, args[0])
	if err != nil {
		return err
	}
	picture, err := format.Draw(c.QR)
	if err != nil || c.QR == "" {
		if file != "" {
			return failed("%s cannot be in a QR code, which takes only addresses in ASCII", c.Address)
		}
		picture = format.Picture{}
	}
	if file != "" {
		content := map[string]func() []byte{".png": picture.PNG, ".svg": picture.SVG}[kind]()
		if err := writeFile(file, content, 0o644); err != nil {
			return err
		}
	}
	if wantsJSON(cmd) {
		return printJSON(cmd.OutOrStdout(), c)
	}
	return c.show(cmd, picture, file == "" && c.QR != "")
}

// newCard makes the card of an account, which must exist: whoever sees it typed the address
// in for somebody else.
func newCard(cmd *cobra.Command, address string) (card, error) {
	cfg, _, err := loadConfig(cmd)
	if err != nil {
		return card{}, err
	}
	found, err := fetched[card](cmd, "GET", accountPath(address), nil)
	if err != nil || len(found) != 1 {
		return card{}, err
	}
	c := card{Address: found[0].Address}
	if at := strings.LastIndexByte(c.Address, '@'); at >= 0 {
		c.Address = c.Address[:at+1] + asciiName(c.Address[at+1:])
	}
	c.Username, c.Services = c.Address, announced(cfg)
	for i := range c.Services {
		c.Services[i].Username = c.Address
	}
	if base := webBase(cfg); base != "" && cfg.Autoconfig.Enabled {
		query := "?" + url.Values{"address": {c.Address}}.Encode()
		c.Page, c.Profile = base+"/account"+query, base+"/account/mail.mobileconfig"+query
	}
	a := discover.Answer{Address: c.Address, Domain: c.Address[strings.LastIndexByte(c.Address, '@')+1:], Services: c.Services}
	c.QR, err = format.QR(a, "")
	if fault.Is(err, fault.Invalid) {
		err = nil // the code takes only ASCII
	}
	return c, err
}

func (c card) show(cmd *cobra.Command, picture format.Picture, draw bool) error {
	out := cmd.OutOrStdout()
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\n", paint(out, bold, clean(c.Address)))
	last := ""
	for _, s := range c.Services {
		use := uses[s.Protocol]
		fmt.Fprintf(&b, "%-9s %-5s %s port %d, %s\n", either(use == last, "", strings.ToUpper(use[:1])+use[1:]), strings.ToUpper(s.Protocol), s.Host, s.Port, securityText(s.Security))
		last = use
	}
	fmt.Fprintf(&b, "%-9s %s\n%-9s that of the account, for reading and sending\n", "User name", clean(c.Username), "Password")
	if c.Page != "" {
		fmt.Fprintf(&b, "%-9s %s\n%-9s %s\n", "Page", c.Page, "Apple", c.Profile)
	}
	if draw {
		fmt.Fprintf(&b, "\nThunderbird for Android: Import settings, Scan QR code\n\n%s", picture.Text(isTerminal(out) && os.Getenv("NO_COLOR") == ""))
	}
	_, err := out.Write([]byte(b.String()))
	return err
}

func securityText(security string) string {
	return map[string]string{discover.TLS: "TLS", discover.StartTLS: "STARTTLS", "none": "no TLS"}[security]
}
