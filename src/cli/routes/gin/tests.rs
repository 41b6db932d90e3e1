//! Routers as OpenIM and others write them.

use std::path::Path;

use super::*;

fn read(text: &str) -> Router {
    Router::read([(Path::new("router.go"), text)]).unwrap()
}

/// The routes, as in `POST /user/x`.
fn routes(text: &str) -> Vec<String> {
    let router = read(text);
    assert_eq!(router.unread, [], "{text}");
    shown(&router)
}

fn shown(router: &Router) -> Vec<String> {
    router.routes.iter().map(|route| format!("{} {}", route.method, route.path)).collect()
}

/// What was not understood, as in `3 g.POST(...): why`, and the routes that were.
fn unread(text: &str) -> (Vec<String>, Vec<String>) {
    let router = read(text);
    let unread = router.unread.iter().map(|u| format!("{} {}: {}", u.place.line, u.what, u.why)).collect();
    (unread, shown(&router))
}

/// A function body with a router `r`.
fn body(text: &str) -> String {
    format!(
        "package api\nfunc newGinRouter(ctx context.Context) (*gin.Engine, error) {{\nr := gin.New()\n{text}\nreturn r, nil\n}}\n"
    )
}

#[test]
fn groups_are_followed() {
    let text = r#"package api

import (
	"github.com/gin-gonic/gin"
)

const version = "/v2"

// r.POST("/commented", out)
func newGinRouter(ctx context.Context, cfg *Config) (*gin.Engine, error) {
	conn, err := client.GetConn(ctx, cfg.Discovery.User)
	if err != nil {
		return nil, err
	}
	r := gin.New()
	r.Use(gzip.Gzip(gzip.BestSpeed), gin.RecoveryWithWriter(w, mw.GinPanicErr),
		GinParseToken(conn))
	u := NewUserApi(user.NewUserClient(conn), client)
	{
		userRouterGroup := r.Group("/user")
		userRouterGroup.POST("/user_register", u.UserRegister) // first
		userRouterGroup.POST(
			"/get_users_info",
			u.GetUsersPublicInfo,
		)
		//userRouterGroup.POST("/commented", u.Out)
		/* userRouterGroup.POST("/commented", u.Out) */
	}
	{
		t := NewThirdApi(cfg.GrafanaURL)
		thirdGroup := r.Group("/third")
		thirdGroup.GET("/prometheus", t.GetPrometheus)
		logs := thirdGroup.Group("/logs")
		logs.POST(`/upload`, t.UploadLogs)
		objectGroup := r.Group("object/")
		objectGroup.GET("/*name", t.ObjectRedirect)
	}
	{
		jssdk := r.Group("/jssdk")
		jssdk.POST("/get_conversations", j.GetConversations)
	}
	cm := NewConfigManager(cfg.Admins, r2.client.(*etcd.Registry).GetClient())
	configGroup := r.Group(version+"/config", cm.CheckAdmin)
	configGroup.POST("/get_"+"config", cm.GetConfig)
	r.POST("/restart", cm.CheckAdmin, cm.Restart)
	return r, nil
}

func GinParseToken(c *Client) gin.HandlerFunc {
	return func(c *gin.Context) {
		switch c.Request.Method {
		case http.MethodPost:
			for _, wApi := range Whitelist {
				if strings.HasPrefix(c.Request.URL.Path, wApi) {
					c.Next()
				}
			}
		}
	}
}

var Whitelist = []string{
	"/auth/get_admin_token",
}
"#;
    let expected = [
        "POST /user/user_register",
        "POST /user/get_users_info",
        "GET /third/prometheus",
        "POST /third/logs/upload",
        "GET /object/*name",
        "POST /jssdk/get_conversations",
        "POST /v2/config/get_config",
        "POST /restart",
    ];
    assert_eq!(routes(text), expected);
    assert_eq!(read(text).routes[1].place.line, 22);
}

#[test]
fn every_way_to_register_is_known() {
    let cases = [
        (r#"r.Group("/a").Group("b/").POST("/c", h)"#, vec!["POST /a/b/c"]),
        ("r.Group(\"/a\").\n\tPOST(\"/b\", h).\n\tGET(\"/c\", h)", vec!["POST /a/b", "GET /a/c"]),
        (r#"r.Use(a).Use(b).PUT("/x", h)"#, vec!["PUT /x"]),
        (r#"r.Handle("POST", "/x", h)"#, vec!["POST /x"]),
        (r#"r.Handle(http.MethodDelete, "/x", h)"#, vec!["DELETE /x"]),
        (r#"r.Match([]string{"GET", http.MethodPost}, "/x", h)"#, vec!["GET /x", "POST /x"]),
        (r#"r.Any("/x", h)"#, vec!["ANY /x"]),
        (r#"r.Static("/s", "./dir")"#, vec!["GET /s/*filepath", "HEAD /s/*filepath"]),
        (r#"r.StaticFile("/f.ico", "./f")"#, vec!["GET /f.ico", "HEAD /f.ico"]),
        (r#"g := r; g.POST("", h); g.POST("x/", h)"#, vec!["POST /", "POST /x/"]),
        ("var g = r.Group(\"/a\")\ng.POST(\"/b\", h)", vec!["POST /a/b"]),
        ("var g *gin.RouterGroup\ng = r.Group(\"/a\")\ng.POST(\"/b\", h)", vec!["POST /a/b"]),
        (r#"s.http = gin.Default(); s.http.POST("/b", h)"#, vec!["POST /b"]),
        (r#"if on { r.POST("/b", func(c *gin.Context) { c.JSON(200, "/x") }) }"#, vec!["POST /b"]),
        (
            "g := r.Group(\"/a\")\n{ g := r.Group(\"/b\")\ng.GET(\"/x\", h) }\ng.GET(\"/x\", h)",
            vec!["GET /b/x", "GET /a/x"],
        ),
        (r#"if r == nil { return nil, err }; srv := http.Server{Handler: r}"#, vec![]),
        (r#"log.Any("key", 1); re.Match(b); x.Handle("k")"#, vec![]),
    ];
    for (text, expected) in cases {
        assert_eq!(routes(&body(text)), expected, "{text}");
    }
}

#[test]
fn helper_functions_are_followed() {
    let helper = |call: &str, helper: &str| format!("{}\n{helper}", body(call));
    let cases = [
        (
            helper("users(r, u, v)", "func users(root *gin.Engine, u, v Api) {\ng := root.Group(\"/u\")\ng.POST(\"/x\", u.X)\n}"),
            vec!["POST /u/x"],
        ),
        (
            helper(
                "users(r.Group(\"/a\"))\ns.users(r.Group(\"/b\"))",
                "func (s *Server) users(g gin.IRoutes) error {\ng.POST(\"/x\", h)\nreturn nil\n}",
            ),
            vec!["POST /a/x", "POST /b/x"],
        ),
        (
            helper("add(r, \"/p\")\nadd(r, \"/q\")", "func add(r gin.IRouter, path string) { r.POST(path, h) }"),
            vec!["POST /p", "POST /q"],
        ),
        // Nobody calls it here: a whole router is at the root.
        ("func inner(g *gin.RouterGroup) { g.GET(\"/x\", h) }\nfunc Outer(r *gin.Engine) { inner(r.Group(\"/o\")) }".to_owned(), vec!["GET /o/x"]),
    ];
    for (text, expected) in cases {
        assert_eq!(routes(&text), expected, "{text}");
    }
    let files = [
        (Path::new("a.go"), "func New() { r := gin.New()\nusers(r.Group(prefix)) }"),
        (
            Path::new("b.go"),
            "const (\n\tprefix = \"/u\"\n)\nfunc users(g *gin.RouterGroup) { g.POST(\"/x\", h) }",
        ),
    ];
    let router = Router::read(files).unwrap();
    assert_eq!((shown(&router), router.unread), (vec!["POST /u/x".to_owned()], vec![]));
    assert_eq!(&*router.routes[0].place.file, Path::new("b.go"));
}

#[test]
fn what_cannot_be_followed_is_told_and_never_passed_over() {
    let cases = [
        ("r.POST(path, h)", "4 r.POST(...): the path is no constant"),
        ("r.POST(fmt.Sprintf(\"/%s\", x), h)", "4 r.POST(...): the path is no constant"),
        ("r.POST(\"/a\"+x, h)", "4 r.POST(...): the path is no constant"),
        ("for _, p := range paths {\nr.POST(p.path, p.h)\n}", "5 r.POST(...): the path is no constant"),
        ("r.Handle(m, \"/x\", h)", "4 r.Handle(...): the method is no constant"),
        ("r.Match(methods, \"/x\", h)", "4 r.Match(...): the method is no constant"),
        ("r.NoRoute(h)", "4 r.NoRoute(...): it takes whatever no route takes"),
        ("r.Mount(\"/x\", h)", "4 r.Mount(...): this method of a group is not known"),
        ("g := r.Group(prefix)\n_ = 1", "4 r.Group(...): the path of the group is no constant"),
        ("g := group(x)\ng.POST(\"/x\", h)", "5 g.POST(...): it is not known to be called on a group"),
        (
            "a, b := r.Group(\"/a\"), r.Group(\"/b\")\nb.POST(\"/x\", h)",
            "5 b.POST(...): it is not known to be called on a group",
        ),
        ("users(e.Group(\"/u\"))", "4 e.Group(...): it is not known to be called on a group"),
        ("pprof.Register(r)", "4 r: the group is passed on"),
        ("s := Server{engine: r}", "4 r: the group is passed on"),
        ("return wrap(r), nil", "4 r: the group is passed on"),
        ("go func() { add(r) }()", "4 r: the group is passed on"),
        ("post := r.POST\npost(\"/x\", h)", "4 r.POST: a method of the group is passed on"),
        ("http.HandleFunc(\"/x\", h)", "4 http.HandleFunc(...): it is not known to be called on a group"),
        ("mux.Handle(path, h)", "4 mux.Handle(...): it is not known to be called on a group"),
        (
            "func(r *gin.RouterGroup) { r.POST(\"/x\", h) }(nil)",
            "4 r.POST(...): it is not known where the group is",
        ),
        (
            "g := r.Group(\"/a\")\nif x { g = r.Group(\"/b\") }\ng.POST(\"/x\", h)",
            "6 g.POST(...): it is not known where the group is",
        ),
        (
            "g := r.Group(\"/a\")\nif g := r.Group(\"/b\"); x { g.POST(\"/x\", h) }",
            "5 g.POST(...): it is not known where the group is",
        ),
        ("routes[0].POST(\"/x\", h)", "4 POST(...): it is not known to be called on a group"),
        ("get().POST(\"/x\", h)", "4 get(...).POST(...): it is not known to be called on a group"),
        ("(r).POST(\"/x\", h)", "4 r: the group is passed on"),
    ];
    for (text, expected) in cases {
        let (unread, routes) = unread(&body(text));
        assert!(unread.iter().any(|line| line == expected), "{text}: {unread:#?}");
        assert!(!routes.iter().any(|route| route.contains("/x")), "{text}: {routes:?}");
    }
    let (made, _) =
        unread("func New() *gin.Engine { return wrapped }\nfunc Run() {\nr := New()\nusers(r)\n}");
    assert_eq!(made, ["4 r: the group is passed on"]);
    let (unread, _) = unread("func users(g *gin.RouterGroup) { g.POST(\"/x\", h) }");
    assert_eq!(unread, ["1 g.POST(...): it is not known where the group is"]);
    let endless = format!("{}\nfunc again(r *gin.Engine) {{ again(r) }}", body("again(r)"));
    assert_eq!(read(&endless).unread[0].why, "functions call each other too deeply");
}

#[test]
fn any_text_is_read_without_a_panic() {
    let text = body(
        "g := r.Group(\"/a\")\nadd(g, \"/x\")\nfunc(a, b int) (c func()) { g.Match([]string{\"GET\"}, \"/x\") }",
    );
    for end in (0..text.len()).filter(|end| text.is_char_boundary(*end)) {
        for cut in [&text[..end], &text[end..]] {
            let _ = Router::read([(Path::new("router.go"), cut)]);
        }
    }
}
