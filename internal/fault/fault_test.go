package fault

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestKindTravelsThroughWrapping(t *testing.T) {
	cause := errors.New("disk on fire at /var")
	err := fmt.Errorf("append: %w", Wrap(Unavailable, "try again later", cause))
	if Of(err) != Unavailable || !Is(err, Unavailable) {
		t.Fatalf("kind %v", Of(err))
	}
	if Say(err) != "try again later" {
		t.Fatalf("say %q", Say(err))
	}
	if !errors.Is(err, cause) || !strings.Contains(err.Error(), "disk on fire") {
		t.Fatalf("cause lost: %v", err)
	}
}

func TestPeerNeverSeesInternals(t *testing.T) {
	for _, err := range []error{errors.New("secret"), Wrap(Internal, "secret", errors.New("secret"))} {
		if strings.Contains(Say(err), "secret") {
			t.Errorf("%v leaks", err)
		}
	}
}

func TestOfContext(t *testing.T) {
	for err, want := range map[error]Kind{context.Canceled: Closed, context.DeadlineExceeded: Unavailable, errors.New("x"): Internal} {
		if got := Of(err); got != want {
			t.Errorf("Of(%v) = %v, want %v", err, got, want)
		}
	}
	if Is(nil, Internal) {
		t.Error("nil is no error")
	}
}
