package api

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"souk/node/core/step"
)

// Deadlines and bounds at the edge.
const (
	headerWait  = 5 * time.Second        // a local client sends its headers at once
	commandWait = 30 * time.Second       // most commands: the core answers at once, a peer within ten seconds
	patientWait = 130 * time.Second      // those that wait for a lease or an operator
	writeWait   = 30 * time.Second       // one event of a stream; a client that does not read so long is gone
	closeWait   = 5 * time.Second        // for requests under way when the node ends
	bodyMost    = 256 << 10              // bytes of a request
	headMost    = 16 << 10               // bytes of its headers
	lookEvery   = 500 * time.Millisecond // between two looks at what changes without a notice, as the bytes of a pull
)

// A server answers requests for one Backend.
type server struct {
	b    Backend
	log  *slog.Logger
	stop <-chan struct{} // closed when streams should end
}

// Listen takes the socket at path, mode 0600. A socket that a killed node left behind is replaced; one that is answered
// is not. It fails with ErrForeign in a folder that another user could have prepared.
func Listen(path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("api: %w", err)
	}
	if err := ownFolder(filepath.Dir(path)); err != nil {
		return nil, err
	}
	if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
		c.Close()
		return nil, fmt.Errorf("api: another node answers on %s", path)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("api: %w", err)
	}
	l, err := listenPrivate(path)
	if err != nil {
		return nil, fmt.Errorf("api: %w", err)
	}
	return l, nil
}

// Serve listens on the socket at path and answers until ctx ends.
func Serve(ctx context.Context, path string, b Backend, log *slog.Logger) error {
	l, err := Listen(path)
	if err != nil {
		return err
	}
	return ServeOn(ctx, l, b, log)
}

// ServeOn answers on a listener until ctx ends, and closes it.
func ServeOn(ctx context.Context, l net.Listener, b Backend, log *slog.Logger) error {
	srv := &http.Server{
		Handler: Handler(ctx, b, log), ReadHeaderTimeout: headerWait, MaxHeaderBytes: headMost,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	select {
	case err := <-done:
		return fmt.Errorf("api: %w", err)
	case <-ctx.Done():
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeWait)
	defer cancel()
	if err := srv.Shutdown(end); err != nil {
		srv.Close()
	}
	<-done
	return nil
}

// Handler is the API without a socket. Its streams end with ctx.
func Handler(ctx context.Context, b Backend, log *slog.Logger) http.Handler {
	mux := http.NewServeMux()
	describe(mux, &server{b: b, log: log, stop: ctx.Done()}, b.Info(ctx).Version)
	return http.MaxBytesHandler(mux, bodyMost)
}

// describe enters every route.
func describe(mux *http.ServeMux, s *server, version string) huma.API {
	ownErrors()
	cfg := huma.DefaultConfig("Souk node", version)
	cfg.Info.Description = "A node of a peer-to-peer market for GPU pods, to its own user, over a unix socket."
	cfg.DocsPath, cfg.SchemasPath, cfg.CreateHooks = "", "", nil
	cfg.Components.Schemas = huma.NewMapRegistry("#/components/schemas/", schemaName)
	a := humago.New(mux, cfg)
	s.nodeRoutes(a)
	s.marketRoutes(a)
	s.leaseRoutes(a)
	s.hostRoutes(a)
	s.operatorRoutes(a)
	s.ledgerRoutes(a)
	s.moneyRoutes(a)
	s.auditRoutes(a)
	return a
}

// schemaName is the name of a type in the description: with the package before it, unless it is ours.
func schemaName(t reflect.Type, hint string) string {
	name := huma.DefaultSchemaNamer(t, hint)
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice && t.Name() == "" {
		t = t.Elem()
	}
	pkg := t.PkgPath()[strings.LastIndexByte(t.PkgPath(), '/')+1:]
	if pkg == "" || pkg == "api" || pkg == "huma" {
		return name
	}
	return strings.ToUpper(pkg[:1]) + pkg[1:] + name
}

// Reply is the body of an answer.
type reply[T any] struct{ Body T }

// none is the input of a route that takes nothing.
type none struct{}

// op describes one route: what it is called, where it stands, what it does in a sentence.
func op(id, method, path, summary string) huma.Operation {
	return huma.Operation{
		OperationID: id, Method: method, Path: path, Summary: summary, MaxBodyBytes: bodyMost, BodyReadTimeout: headerWait,
		Tags: []string{strings.Split(strings.TrimPrefix(path, "/v1/"), "/")[0]}, DefaultStatus: http.StatusOK,
	}
}

// patient lets a route wait for peers.
func patient(o huma.Operation) huma.Operation {
	o.Metadata = map[string]any{"wait": patientWait}
	return o
}

// route enters a route that answers with a value.
func route[I, O any](a huma.API, o huma.Operation, answer func(context.Context, *I) (O, error)) {
	wait := commandWait
	if w, ok := o.Metadata["wait"].(time.Duration); ok {
		wait = w
	}
	answers[O](a, &o)
	huma.Register(a, o, func(ctx context.Context, in *I) (*reply[any], error) {
		ctx, cancel := context.WithTimeout(ctx, wait)
		defer cancel()
		v, err := answer(ctx, in)
		if err != nil {
			return nil, problemOf(err)
		}
		return &reply[any]{v}, nil
	})
}

// answers describes what a route answers with. It does so here because a handler for every type of answer would be compiled with all of
// huma's around it: half a megabyte of program, which an idle node pays for.
func answers[O any](a huma.API, o *huma.Operation) {
	t := reflect.TypeFor[O]()
	o.Responses = map[string]*huma.Response{strconv.Itoa(o.DefaultStatus): {
		Description: http.StatusText(o.DefaultStatus),
		Content: map[string]*huma.MediaType{"application/json": {
			Schema: a.OpenAPI().Components.Schemas.Schema(t, true, t.Name()),
		}},
	}}
}

// do has the core carry out a command that is answered with a T.
func do[T any](ctx context.Context, b Backend, cmd any) (T, error) {
	v, err := b.Do(ctx, cmd)
	if err != nil {
		var zero T
		return zero, err
	}
	t, ok := v.(T)
	if !ok {
		return t, fmt.Errorf("api: the core answered %T to %T", v, cmd)
	}
	return t, nil
}

// command enters a route that is one command of the core.
func command[I, O any](s *server, a huma.API, o huma.Operation, make func(*I) any) {
	route(a, o, func(ctx context.Context, in *I) (O, error) { return do[O](ctx, s.b, make(in)) })
}

// usage is a problem of the request itself.
func usage(format string, args ...any) error {
	return step.Fail(step.ProblemUsage, "", format, args...)
}
