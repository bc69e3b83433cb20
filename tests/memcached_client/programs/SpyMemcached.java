import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.net.InetSocketAddress;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import net.spy.memcached.ConnectionFactory;
import net.spy.memcached.ConnectionFactoryBuilder;
import net.spy.memcached.ConnectionFactoryBuilder.Locator;
import net.spy.memcached.DefaultConnectionFactory;
import net.spy.memcached.DefaultHashAlgorithm;
import net.spy.memcached.FailureMode;
import net.spy.memcached.KetamaNodeKeyFormatter;
import net.spy.memcached.KetamaNodeLocator;
import net.spy.memcached.MemcachedClient;
import net.spy.memcached.MemcachedNode;
import net.spy.memcached.NodeLocator;
import net.spy.memcached.internal.OperationFuture;

/** Stores the keys of standard input. MODE is "locator,hash,format". */
public class SpyMemcached {
  public static void main(String[] arguments) throws Exception {
    String[] mode = arguments[0].split(",");
    DefaultHashAlgorithm hash = DefaultHashAlgorithm.valueOf(mode[1]);
    List<InetSocketAddress> servers = new ArrayList<>();
    Map<InetSocketAddress, Integer> weights = new HashMap<>();
    boolean weighted = false;
    for (int i = 1; i < arguments.length; i++) {
      String[] parts = arguments[i].split(":");
      InetSocketAddress server = new InetSocketAddress(parts[0], Integer.parseInt(parts[1]));
      servers.add(server);
      weights.put(server, Integer.parseInt(parts[2]));
      weighted |= !parts[2].equals("1");
    }
    Map<InetSocketAddress, Integer> given = weighted ? weights : new HashMap<>();
    ConnectionFactory factory;
    if (mode[0].equals("KETAMA")) {
      KetamaNodeKeyFormatter.Format format = KetamaNodeKeyFormatter.Format.valueOf(mode[2]);
      factory = new DefaultConnectionFactory() {
        @Override
        public FailureMode getFailureMode() {
          return FailureMode.Retry; // while it is not connected yet, too
        }

        @Override
        public long getOperationTimeout() {
          return 60_000;
        }

        @Override
        public NodeLocator createLocator(List<MemcachedNode> nodes) {
          return new KetamaNodeLocator(nodes, hash, format, given);
        }
      };
    } else {
      factory = new ConnectionFactoryBuilder()
          .setLocatorType(Locator.ARRAY_MOD)
          .setHashAlg(hash)
          .setFailureMode(FailureMode.Retry)
          .setOpTimeout(60_000)
          .build();
    }
    MemcachedClient client = new MemcachedClient(factory, servers);
    BufferedReader keys = new BufferedReader(new InputStreamReader(System.in, "UTF-8"));
    List<OperationFuture<Boolean>> stored = new ArrayList<>();
    for (String key = keys.readLine(); key != null; key = keys.readLine()) {
      stored.add(client.set(key, 0, "1"));
      if (stored.size() % 100 == 0) {
        stored.get(stored.size() - 1).get();
      }
    }
    for (OperationFuture<Boolean> one : stored) {
      if (!one.get()) {
        throw new IllegalStateException(one.getKey());
      }
    }
    System.out.print("done");
    System.exit(0);
  }
}
