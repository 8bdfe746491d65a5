//! Both links to NATS: tests of what happens on the way to a server are run on natter's own and on the library's.

/// Makes a test of each function, which takes the link, on either of them: `own::…` and `library::…`.
macro_rules! on_both_links {
    ($($name:ident),+ $(,)?) => {
        mod own {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(natter::config::NatsLink::Own).await;
            })+
        }
        mod library {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(natter::config::NatsLink::AsyncNats).await;
            })+
        }
    };
    // On one thread, where nothing else runs while a test goes on.
    (single: $($name:ident),+ $(,)?) => {
        mod own_single {
            $(#[tokio::test]
            async fn $name() {
                super::$name(natter::config::NatsLink::Own).await;
            })+
        }
        mod library_single {
            $(#[tokio::test]
            async fn $name() {
                super::$name(natter::config::NatsLink::AsyncNats).await;
            })+
        }
    };
}

pub(crate) use on_both_links;
