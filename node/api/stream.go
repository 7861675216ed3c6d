package api

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"souk/node/core/step"
)

// A sender writes server-sent events: https://html.spec.whatwg.org/multipage/server-sent-events.html
type sender struct {
	w    http.ResponseWriter
	ctl  *http.ResponseController
	open bool
}

// send writes one event. An id of 0 is left out.
func (s *sender) send(event string, id uint64, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	s.start()
	s.ctl.SetWriteDeadline(time.Now().Add(writeWait))
	if id > 0 {
		fmt.Fprintf(s.w, "id: %d\n", id)
	}
	if _, err := fmt.Fprintf(s.w, "event: %s\ndata: %s\n\n", event, b); err != nil {
		return err
	}
	return s.ctl.Flush()
}

// start sends the headers, once: from then on the client knows that it misses nothing.
func (s *sender) start() {
	if s.open {
		return
	}
	s.open = true
	s.w.Header().Set("Content-Type", "text/event-stream")
	s.w.Header().Set("Cache-Control", "no-store")
	s.w.WriteHeader(http.StatusOK)
	s.ctl.Flush()
}

// The events that every stream may end with.
const (
	eventEnd   = "end"   // nothing more will come
	eventError = "error" // data: a Problem
)

// stream enters a route that answers with events. samples are the data of each, by name. An error before the first event
// is an ordinary problem; later it is an event of its own. The stream ends when the node does.
func stream[I any](s *server, a huma.API, o huma.Operation, samples map[string]any, run func(context.Context, *I, *sender) error) {
	var choices []*huma.Schema
	for _, name := range slices.Sorted(maps.Keys(samples)) {
		choices = append(choices, &huma.Schema{
			Title: name, Type: huma.TypeObject, Required: []string{"event", "data"},
			Properties: map[string]*huma.Schema{
				"event": {Type: huma.TypeString, Enum: []any{name}},
				"data":  a.OpenAPI().Components.Schemas.Schema(reflect.TypeOf(samples[name]), true, name),
			},
		})
	}
	o.Responses = map[string]*huma.Response{"200": {
		Description: "Server-sent events",
		Content:     map[string]*huma.MediaType{"text/event-stream": {Schema: &huma.Schema{Type: huma.TypeArray, Items: &huma.Schema{OneOf: choices}}}},
	}}
	huma.Register(a, o, func(_ context.Context, in *I) (*huma.StreamResponse, error) {
		return &huma.StreamResponse{Body: func(hc huma.Context) {
			_, w := humago.Unwrap(hc)
			ctx, cancel := context.WithCancel(hc.Context())
			defer cancel()
			go func() {
				select {
				case <-s.stop:
					cancel()
				case <-ctx.Done():
				}
			}()
			out := &sender{w: w, ctl: http.NewResponseController(w)}
			err := run(ctx, in, out)
			if s.stopping() {
				err = step.Fail(step.ProblemUnreachable, "", "the node has ended")
			}
			switch {
			case err == nil:
				out.send(eventEnd, 0, struct{}{})
			case out.open:
				out.send(eventError, 0, problemOf(err))
			default:
				p := problemOf(err)
				w.Header().Set("Content-Type", "application/problem+json")
				w.WriteHeader(p.Status)
				json.NewEncoder(w).Encode(p)
			}
		}}, nil
	})
}

// stopping reports whether the node is about to end.
func (s *server) stopping() bool {
	select {
	case <-s.stop:
		return true
	default:
		return false
	}
}
