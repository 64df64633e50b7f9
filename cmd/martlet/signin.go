package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/martlet-mail/martlet/internal/conf"
	"github.com/martlet-mail/martlet/internal/move/imapc"
	"github.com/martlet-mail/martlet/internal/move/signin"
)

// Signing in at a provider, for commands that read mail there.

const signInHelp = `With --oauth a person signs in at the provider in a browser, and no password is needed. The
provider wants to know the program: register one of your own there, and name it in a
[[links.client]] block of the configuration or by --client-id. The browser must reach this
machine on the port that is shown; from afar, lead it there (ssh -L PORT:127.0.0.1:PORT), or
paste the address to which the browser was sent. With --device a code is typed on any device,
where the provider has that (Microsoft; Google does not for mail).`

func signInFlags(f *pflag.FlagSet) {
	f.String("oauth", "", "sign in by OAuth: google, microsoft, yahoo, aol, fastmail, mailru, yandex, comcast, or the https address of an issuer")
	f.String("client-id", "", "what the provider calls your program; without it, the [[links.client]] of the configuration")
	f.String("client-secret-file", "", "file whose first line is the secret of your program")
	f.String("scope", "", "what the issuer calls access to mail, if it is none of the above")
	f.Bool("device", false, "sign in by a code, on any device")
	f.Int("port", 0, "port of this machine to which the browser comes back; 0: any")
}

func clientTLS(roots *x509.CertPool) *tls.Config {
	return &tls.Config{RootCAs: roots, Time: time.Now, MinVersion: tls.VersionTLS12}
}

// signInWanted signs a person in if --oauth says so; nil: it does not.
func signInWanted(cmd *cobra.Command, cfg *conf.Config) (*signin.Grant, error) {
	f := cmd.Flags()
	name, _ := f.GetString("oauth")
	if name == "" {
		return nil, nil
	}
	if on, _ := f.GetBool("password-stdin"); on {
		return nil, misused("--oauth and --password-stdin exclude each other")
	}
	roots, err := signInRoots(cmd, cfg)
	if err != nil {
		return nil, err
	}
	o := signInOptions(roots, new(net.Dialer).DialContext)
	port, _ := f.GetInt("port")
	o.Listen = func() (net.Listener, error) {
		return net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	}
	provider, err := signInProvider(cmd, o, name)
	if err != nil {
		return nil, err
	}
	client, err := signInClient(cmd, cfg, name)
	if err != nil {
		return nil, err
	}
	g, err := signInNow(cmd, o, provider, client)
	return &g, err
}

// importSignIn signs a person in for an import, if --oauth says so: what it returns gives
// tokens, which are made anew as they end. Nothing is stored.
func importSignIn(cmd *cobra.Command, login string) (func(context.Context) (imapc.Credentials, error), error) {
	cfg, err := optionalConfig(cmd)
	if err != nil {
		return nil, err
	}
	g, err := signInWanted(cmd, cfg)
	if g == nil || err != nil {
		return nil, err
	}
	roots, err := signInRoots(cmd, cfg)
	if err != nil {
		return nil, err
	}
	o := signInOptions(roots, new(net.Dialer).DialContext)
	var one sync.Mutex // connections are made at the same time
	return func(ctx context.Context) (imapc.Credentials, error) {
		one.Lock()
		defer one.Unlock()
		now, _, err := o.Fresh(ctx, *g)
		*g = now
		return imapc.Credentials{User: login, Token: g.Access, Mechanism: g.Mechanism}, err
	}, nil
}

// signInRoots are the authorities that count at providers.
func signInRoots(cmd *cobra.Command, cfg *conf.Config) (*x509.CertPool, error) {
	ca := conf.Path("")
	if cfg != nil {
		ca = cfg.Links.CA
	}
	if own, _ := cmd.Flags().GetString("ca"); own != "" {
		ca = conf.Path(own)
	}
	roots, _, err := authorities(ca)
	return roots, misconfigured(err)
}

func signInProvider(cmd *cobra.Command, o signin.Options, name string) (signin.Provider, error) {
	scope, _ := cmd.Flags().GetString("scope")
	if strings.Contains(name, "://") {
		return o.Issuer(cmd.Context(), name, scope)
	}
	p, err := signin.Find(name)
	if err != nil {
		return p, misused("--oauth: %s", describe(err))
	}
	if scope != "" {
		p.Scope = scope
	}
	return p, nil
}

// signInClient is the administrator's own program at the provider.
func signInClient(cmd *cobra.Command, cfg *conf.Config, provider string) (c signin.Client, err error) {
	f := cmd.Flags()
	file, _ := f.GetString("client-secret-file")
	if c.ID, _ = f.GetString("client-id"); c.ID != "" {
		c.Secret, err = conf.LinkClient{SecretFile: conf.Path(file)}.Secret(files)
		return c, misconfigured(err)
	}
	if cfg != nil {
		for _, known := range cfg.Links.Clients {
			if strings.EqualFold(known.Provider, provider) {
				c.ID = known.ID
				c.Secret, err = known.Secret(files)
				return c, misconfigured(err)
			}
		}
	}
	where := ""
	if p, err := signin.Find(provider); err == nil {
		where = " (" + p.Register + ")"
	}
	return c, misused("--client-id is missing, and the configuration has no [[links.client]] for %s: register a program of your own there%s, as none comes with this server", provider, where)
}

func signInNow(cmd *cobra.Command, o signin.Options, p signin.Provider, c signin.Client) (signin.Grant, error) {
	err := cmd.ErrOrStderr()
	if device, _ := cmd.Flags().GetBool("device"); device {
		o.Show = func(at signin.Prompt) {
			fmt.Fprintf(err, "Go to %s and type the code %s, before %s.\n", clean(at.URL), clean(at.Code), at.Expires.Local().Format("15:04"))
		}
		return o.Device(cmd.Context(), p, c)
	}
	o.Show = func(at signin.Prompt) {
		fmt.Fprintf(err, "Sign in with a browser, before %s:\n\n  %s\n\nIf it cannot come back to this machine, paste the address it was sent to here.\n", at.Expires.Local().Format("15:04"), at.URL)
	}
	ctx, cancel := context.WithCancel(cmd.Context())
	defer cancel()
	if isTerminal(cmd.InOrStdin()) {
		o.Pasted = pastedLines(ctx, cmd)
	}
	return o.Loopback(ctx, p, c)
}

// pastedLines are what a person types until ctx ends.
func pastedLines(ctx context.Context, cmd *cobra.Command) <-chan string {
	lines := make(chan string)
	go func() {
		in := bufio.NewScanner(cmd.InOrStdin())
		for in.Scan() {
			select {
			case lines <- in.Text():
			case <-ctx.Done():
				return
			}
		}
	}()
	return lines
}
