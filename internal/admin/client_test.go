package admin_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/dmsc-mesh/dmsc/internal/admin"
)

func TestTheClientTellsWhyThereIsNoPage(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/page", func(w http.ResponseWriter, _ *http.Request) { admin.WriteJSON(w, []int{1, 2}) })
	mux.HandleFunc("/html", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) })
	mux.HandleFunc("/half", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("[1,")) })
	mux.HandleFunc("/bad", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no such limit", http.StatusBadRequest) })
	mux.HandleFunc("/slow", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	s := httptest.NewServer(mux)
	defer s.Close()
	c := admin.Client{Address: s.URL + "/"} // with and without the last slash
	var got []int
	if err := c.Read(t.Context(), "/page", nil, &got); err != nil || len(got) != 2 {
		t.Errorf("%v, %v", got, err)
	}
	for path, want := range map[string]error{"/html": admin.ErrUnreachable, "/half": admin.ErrUnreachable, "/none": admin.ErrNoPage, "/slow": context.DeadlineExceeded} {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		if path == "/slow" {
			ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
		}
		defer cancel()
		if err := c.Read(ctx, path, nil, &got); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", path, err, want)
		}
	}
	var refused *admin.RefusedError
	if err := c.Read(t.Context(), "/bad", nil, &got); !errors.As(err, &refused) || refused.Status != 400 || refused.Text != "no such limit" {
		t.Errorf("/bad: %v", err)
	}
	for _, nobody := range []string{"unix:///nowhere/at/all", "127.0.0.1:1", "http://", "http://x y/"} {
		if err := (admin.Client{Address: nobody}).Read(t.Context(), "/page", nil, &got); !errors.Is(err, admin.ErrUnreachable) {
			t.Errorf("%s: %v", nobody, err)
		}
	}
}
